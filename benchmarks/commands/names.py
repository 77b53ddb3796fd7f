"""The one table of commands."""

COMMANDS = {
    "fit": "distil (or reuse what is cached), then train and test every student, print and store the rows",
    "distill": "only distil",
    "evaluate": "only train and test students, on the configuration's own or on a given distilled set",
    "prior": "train (or reuse) the latent diffusion prior of a configuration",
    "teacher": "train (or reuse) the teacher of a configuration",
    "plan": "say what a configuration will take in operations, disk, memory and hours; nothing runs",
    "suite": "run a grid of cells, one process each, resumable",
    "leaderboard": "fold result files into tables",
    "export": "write a distilled set as an image folder or parquet, with a dataset card",
    "import": "read a set made elsewhere (class folders, parquet), or an export, as a distilled set",
    "compare": "compare two methods on the same seeds, with intervals and p-values",
    "report": "compare all methods with chosen ones: findings, corrected p-values, figures",
}
