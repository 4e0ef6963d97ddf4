#!/usr/bin/env bash
# Runs each notebook as Colab does: alone in a folder, with the given Python of Colab's environment.
# Its first cell installs the package from this repository's last commit.
# Fails if a notebook fails, or if its first cell's pip changes any package but torchviz and this one.
set -euo pipefail
python=$PWD/$1
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
mkdir "$folder/content"
cp notebooks/*.ipynb "$folder/content"
sed -i "s|https://github.com/OWNER/NAME|file://$PWD|" "$folder"/content/*.ipynb
cd "$folder/content"
"$python" --version
# A short run is enough to execute every cell.
export MNIST_ADDER_EPOCHS=1
sed -i "s|Epochs(mnist=10, digits=80)|1|" *.ipynb
for notebook in *.ipynb; do
  "$python" -m pip uninstall -qqy mnist-adder torchviz # Colab gives each notebook a fresh machine.
  "$python" -m pip freeze --all >../before
  "$python" -m jupyter execute "$notebook"
  "$python" -m pip freeze --all --exclude mnist-adder --exclude torchviz >../after
  diff ../before ../after
  echo "$notebook ran, and its pip installed these packages only:"
  "$python" -m pip list --format freeze | grep -E '^(mnist-adder|torchviz)='
done
