"""Search for a learning rate and a weight of the sum; end hopeless trainings early.

It needs Optuna: pip install optuna.
"""

from dataclasses import replace

import optuna

from mnist_adder import RECIPES, InputError, Training, gpu_check, load_data


def main(data, device="cpu", trials=20):
    def objective(trial):
        recipe = replace(
            RECIPES["speedrun"],
            lr=trial.suggest_float("lr", 0.05, 1.0, log=True),
            sum_weight=trial.suggest_float("sum_weight", 0.05, 1.0, log=True),
        )
        for row in Training(recipe, data, device=device):
            accuracy = row["test_joint_accuracy"]  # on a fold of the training set
            trial.report(accuracy, row["epoch"])
            if trial.should_prune():
                raise optuna.TrialPruned
        return accuracy

    pruner = optuna.pruners.MedianPruner(n_startup_trials=4)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    study.optimize(objective, n_trials=trials, catch=InputError)  # after an infinite loss, go on
    return study


if __name__ == "__main__":
    print(main(load_data("auto", validate=0), gpu_check()).best_params)
