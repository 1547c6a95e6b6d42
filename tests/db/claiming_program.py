"""A program that claims trials in a race: `claiming_program.py DATABASE_URL STUDY WORKER TRIALS`.

Run by `test_studies_race.py`; says that it is ready, waits for a line, and prints the numbers that it won as JSON.
"""

from __future__ import annotations

import json
import random
import sys
from datetime import timedelta

from db.database import Database
from db.studies import NewTrial, StudyStore


def race(studies: StudyStore, study_id: str, worker: str, trials: int) -> list[int]:
    """Claim two trials at a time, as a worker of a search does, until there are so many; return the numbers won."""
    rng = random.Random(worker)
    won: list[int] = []
    while len(known := studies.snapshot(study_id).trials) < trials:
        free = sorted(set(range(2 * trials)) - {trial.point for trial in known})
        points = rng.sample(free, 2)
        new = [NewTrial(len(known) + i, point, f"a{point}", {"by": worker}) for i, point in enumerate(points)]
        jobs = [(trial.number, 0) for trial in new]
        if studies.claim(study_id, worker=worker, lease=timedelta(minutes=1), trials=new, jobs=jobs):
            won += [trial.number for trial in new]
    return won


def main(url: str, study_id: str, worker: str, trials: str) -> None:
    """Race when told to."""
    with Database.open(url) as database:
        studies = StudyStore(database)
        print("ready", flush=True)
        sys.stdin.readline()
        print(json.dumps(race(studies, study_id, worker, int(trials))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
