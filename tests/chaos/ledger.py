"""The rules of a ledger: what each entry may refer to, which result decides, and what follows for the run.

A run is played from its rows as the documents describe them. Whatever does not fit is a finding, and the play goes on.
"""

from collections import Counter

from blake3_hash import blake3
from payload import Damaged, batch, text_reference

OUTCOMES = {1: "passed", 2: "failed", 3: "error", 4: "skipped", 5: "killed"}
# Verdicts that no attempt gives. A pass has an attempt.
WITHOUT_ATTEMPT = ("error", "not_run", "lost")
CLOSED, RETURNED, BROKEN, LOST = 1, 2, 3, 4
# A case that took down so many processes or agents is an error; what was killed before is run again.
KILLED_PROCESSES, LOST_AGENTS = 2, 3
ATTEMPTS = KILLED_PROCESSES + LOST_AGENTS - 1


class Case:
    def __init__(self, read, lease):
        self.id, self.occurrence = read["id"], read["occurrence"]
        self.name, self.group, self.file = read["name"], read["class"], read["file"]
        self.owner = lease
        self.verdict = self.reason = None
        self.attempts = []

    @property
    def key(self):
        return self.id, self.occurrence

    def may_be_error(self):
        """Whether what happened to it on record is enough to blame it."""
        ends = [attempt for attempt in self.attempts if OUTCOMES.get(attempt["outcome"]) in ("killed", "error")]
        agents = sum(attempt["agent_lost"] for attempt in ends)
        return agents >= LOST_AGENTS or len(ends) - agents >= KILLED_PROCESSES


class Unit:
    def __init__(self, read):
        self.name, self.suite = read["name"], read["suite"]
        self.cases, self.declared, self.settled = [], False, None

    def stands_for_itself(self):
        return self.settled is not None or not self.declared


class Lease:
    def __init__(self, read):
        self.unit, self.shard, self.generation = read["unit"], read["shard"], read["generation"]
        self.ended, self.begun, self.cases = None, False, set()


class Ledger:
    def __init__(self):
        self.findings = []
        self.opened = self.closed = self.stopped = None
        self.agents, self.shards, self.units, self.suites = [], [], [], []
        self.leases, self.locks = {}, {}
        self.listed, self.notes, self.objections = set(), [], []
        self.evidence, self.recoveries, self.epoch, self.row = 0, 0, None, 0
        # The upper half of the last lease's number, and how often the run had been taken up again by then.
        self.term = (0, 0)

    def wrong(self, rule, text):
        self.findings.append((rule, f"row {self.row}: {text}" if self.row else text))

    # ---------------------------------------------------------------- rows

    def play(self, rows):
        previous = bytes(32)
        for place, (sequence, epoch, said, payload) in enumerate(rows, 1):
            self.row = sequence
            if sequence != place:
                self.wrong("sequence", f"it stands where row {place} should be")
                return
            if said != previous:
                self.wrong("chain", "it does not name the hash of the row before it")
            previous = blake3(said + sequence.to_bytes(8, "little") + epoch.to_bytes(8, "little", signed=True) + payload)
            try:
                entries, taken = batch(payload)
            except (Damaged, UnicodeDecodeError) as error:
                self.wrong("payload", str(error))
                return
            self._epoch(epoch, entries)
            for name, entry in entries:
                self._apply(name, entry)
            if taken and self._known("agent", taken["agent"], self.agents):
                agent = self.agents[taken["agent"]]
                if taken["sequence"] < agent["sequence"]:
                    self.wrong("reference", f"agent {taken['agent']} is taken in up to less than before")
                agent["sequence"] = taken["sequence"]
        self.row = 0

    def _epoch(self, epoch, entries):
        recovered = [entry["epoch"] for name, entry in entries if name == "recovered"]
        if self.epoch is not None and epoch < self.epoch:
            self.wrong("epoch", f"its epoch {epoch} is below {self.epoch}")
        elif self.epoch is not None and epoch > self.epoch and recovered != [epoch]:
            self.wrong("epoch", f"epoch {epoch} begins without the word that the run was taken up again")
        self.epoch = epoch

    def _apply(self, name, entry):
        if self.closed:
            self.wrong("run", f"{name} behind the run's end")
        if (self.opened is None) != (name == "run_opened"):
            self.wrong("reference", f"{name} where the run is {'not open' if self.opened is None else 'open already'}")
        rule = getattr(self, f"_{name}", None)
        if rule is None:
            self.wrong("payload", f"nothing is known of {name}")
        else:
            rule(entry)

    def _known(self, what, number, among):
        if number in among if isinstance(among, dict) else 0 <= number < len(among):
            return True
        self.wrong("reference", f"{what} {number} was never introduced")
        return False

    # ---------------------------------------------------------------- who serves

    def _run_opened(self, entry):
        self.opened = entry
        self.suites = [suite["name"] for suite in entry["suites"]] or [entry["suite"]]

    def _recovered(self, entry):
        self.recoveries += 1

    def _agent_joined(self, entry):
        if entry["agent"] != len(self.agents):
            self.wrong("reference", f"agent {entry['agent']} joins as the one behind {len(self.agents) - 1}")
        self.agents.append({"name": entry["name"], "gone": False, "sequence": 0})

    def _shard_opened(self, entry):
        if entry["shard"] != len(self.shards):
            self.wrong("reference", f"shard {entry['shard']} is opened behind {len(self.shards) - 1}")
        if self._known("agent", entry["agent"], self.agents) and self.agents[entry["agent"]]["gone"]:
            self.wrong("reference", f"shard {entry['shard']} is opened on agent {entry['agent']}, which is gone")
        place = (entry["agent"], entry["slot"])
        if any(shard["place"] == place and not shard["closed"] for shard in self.shards):
            self.wrong("reference", f"shard {entry['shard']} is opened in a slot that is another one's")
        self.shards.append({"place": place, "closed": False, "processes": []})

    def _shard_closed(self, entry):
        if self._known("shard", entry["shard"], self.shards):
            self.shards[entry["shard"]]["closed"] = True

    def _agent_gone(self, entry):
        if self._known("agent", entry["agent"], self.agents):
            if self.agents[entry["agent"]]["gone"]:
                self.wrong("reference", f"agent {entry['agent']} goes a second time")
            self.agents[entry["agent"]]["gone"] = True

    def _process_started(self, entry):
        if self._known("shard", entry["shard"], self.shards):
            own = self.shards[entry["shard"]]["processes"]
            if own and entry["incarnation"] <= own[-1]:
                self.wrong("reference", f"incarnation {entry['incarnation']} of shard {entry['shard']} is not a new one")
            own.append(entry["incarnation"])
        self._known("suite", entry["suite"], self.suites)

    def _process_ended(self, entry):
        self._known("shard", entry["shard"], self.shards)

    def _unable(self, entry):
        self._known("shard", entry["shard"], self.shards)

    def _carried(self, entry):
        self._known("shard", entry["shard"], self.shards)

    # ---------------------------------------------------------------- what is to be run

    def _listed(self, entry):
        for unit in entry["units"]:
            if self._known("suite", unit["suite"], self.suites) and unit["suite"] in self.listed:
                self.wrong("reference", f"unit {unit['name']} is listed behind its suite's last one")
            self.units.append(Unit(unit))
        if entry["whole"] is not None:
            self.listed.add(entry["whole"])
        elif not entry["more"]:
            self.listed.update(range(len(self.suites)))

    def _planned(self, entry):
        for shard in entry["shards"]:
            for unit in shard["units"]:
                self._known("unit", unit, self.units)

    def _leased(self, entry):
        lease = entry["lease"]
        if lease in self.leases:
            self.wrong("lease", f"lease {lease} is given a second time")
        elif lease & 0xFFFFFFFF != len(self.leases) + 1 or not self._term(lease >> 32):
            self.wrong("lease", f"lease {lease} is not the next number")
        if not self._known("unit", entry["unit"], self.units) or not self._known("shard", entry["shard"], self.shards):
            return
        shard = self.shards[entry["shard"]]
        if shard["closed"] or self.agents[shard["place"][0]]["gone"]:
            self.wrong("lease", f"lease {lease} is given to shard {entry['shard']}, which is not there any more")
        for case in entry["named"] + ([] if entry["alone"] is None else [entry["alone"]]):
            self._known("case", case, self.units[entry["unit"]].cases)
        self.leases[lease] = Lease(entry)

    def _term(self, term):
        """Whether this may be the upper half of a number: it grows when the run is taken up again, and else stays as it is."""
        before, recoveries = self.term
        self.term = (term, self.recoveries)
        return term > before if self.recoveries > recoveries else term == before

    def _live(self, lease, what):
        if not self._known("lease", lease, self.leases):
            return None
        if self.leases[lease].ended is not None:
            self.wrong("lease", f"{what} under lease {lease}, which has ended")
        return self.leases[lease]

    def _revoked(self, entry):
        lease = self._live(entry["lease"], "something is taken back")
        if lease:
            if entry["generation"] <= lease.generation:
                self.wrong("lease", f"lease {entry['lease']} shrinks into generation {entry['generation']}, which is no new one")
            lease.generation = entry["generation"]

    def _unit_begun(self, entry):
        lease = self._live(entry["lease"], "a unit begins")
        if lease:
            if lease.begun:
                self.wrong("lease", f"lease {entry['lease']} begins a second time")
            lease.begun = True

    def _declared(self, entry):
        number = entry["lease"]
        lease = self._live(number, "cases are declared")
        if not lease:
            return
        unit = self.units[lease.unit]
        unit.declared = True
        for known in entry["known"]:
            if not self._known("case", known, unit.cases):
                continue
            case = unit.cases[known]
            if case.owner not in (None, number) and self.leases[case.owner].ended is None:
                self.wrong("lease", f"lease {number} takes {case.id} from lease {case.owner}, which is live")
            case.owner = number
            lease.cases.add(known)
        there = {case.key for case in unit.cases}
        for read in entry["cases"]:
            case = Case(read, number)
            if case.key in there:
                self.wrong("unplanned", f"{case.id} is declared as new and was there before")
            there.add(case.key)
            lease.cases.add(len(unit.cases))
            unit.cases.append(case)

    # ---------------------------------------------------------------- what came of it

    def _attempt(self, entry):
        lease = self._live(entry["lease"], "a result")
        if not lease or not self._known("case", entry["case"], self.units[lease.unit].cases):
            return
        case = self.units[lease.unit].cases[entry["case"]]
        outcome = OUTCOMES.get(entry["outcome"])
        if outcome is None:
            self.wrong("payload", f"outcome {entry['outcome']} of {case.id}")
            return
        if entry["case"] not in lease.cases or case.owner != entry["lease"]:
            self.wrong("result", f"{case.id} has a result under lease {entry['lease']}, which does not own it")
        if case.verdict is not None:
            self.wrong("twice", f"{case.id} has a result behind its verdict")
        if not entry["agent_lost"] and self.agents[self.shards[lease.shard]["place"][0]]["gone"]:
            self.wrong("lease", f"{case.id} has a result from an agent that is gone")
        if entry["started_us"] > entry["ended_us"]:
            self.wrong("result", f"{case.id} ends before it starts")
        processes = self.shards[lease.shard]["processes"]
        if processes and entry["incarnation"] not in processes:
            self.wrong("reference", f"{case.id} ran in process {entry['incarnation']}, which was never started")
        case.attempts.append(entry)
        if len(case.attempts) > ATTEMPTS:
            self.wrong("attempts", f"{case.id} has {len(case.attempts)} attempts, {ATTEMPTS} are the most")
        if outcome == "killed" and case.may_be_error():
            self.wrong("attempts", f"{case.id} was killed more often than it is repeated for")
        if outcome != "killed" and case.verdict is None:
            case.verdict = outcome

    def _settled(self, entry):
        if entry["outcome"] not in WITHOUT_ATTEMPT:
            self.wrong("verdict", f"{entry['outcome']} of unit {entry['unit']} has no attempt behind it")
        if not self._known("unit", entry["unit"], self.units):
            return
        unit = self.units[entry["unit"]]
        verdict = (entry["outcome"], entry["message"])
        if entry["case"] is None:
            if unit.settled:
                self.wrong("twice", f"{unit.name} is settled a second time")
            unit.settled = verdict
        elif self._known("case", entry["case"], unit.cases):
            case = unit.cases[entry["case"]]
            if case.verdict is not None:
                self.wrong("twice", f"{case.id} is settled and had a verdict")
            case.verdict, case.reason = verdict

    def _returned(self, entry):
        lease = self._live(entry["lease"], "cases come back")
        for number in entry["cases"] if lease else ():
            if self._known("case", number, self.units[lease.unit].cases):
                case = self.units[lease.unit].cases[number]
                case.owner = None if case.owner == entry["lease"] else case.owner

    def _lease_ended(self, entry):
        if not self._known("lease", entry["lease"], self.leases):
            return
        lease = self.leases[entry["lease"]]
        if lease.ended is not None:
            self.wrong("lease", f"lease {entry['lease']} ends a second time")
        if entry["reason"] not in (CLOSED, RETURNED, BROKEN, LOST):
            self.wrong("payload", f"lease {entry['lease']} ends for reason {entry['reason']}")
        lease.ended = entry["reason"]
        for case in self.units[lease.unit].cases if lease.ended != CLOSED else ():
            case.owner = None if case.owner == entry["lease"] else case.owner

    def _locked(self, entry):
        if entry["lock"] in self.locks:
            self.wrong("locks", f"{entry['lock']} is taken by shard {entry['shard']} and is shard {self.locks[entry['lock']]}'s")
        self.locks[entry["lock"]] = entry["shard"]

    def _unlocked(self, entry):
        if self.locks.pop(entry["lock"], None) != entry["shard"]:
            self.wrong("locks", f"{entry['lock']} is given back by shard {entry['shard']}, which does not hold it")

    def _evidence(self, entry):
        self.evidence += 1

    def _stopped(self, entry):
        self.stopped = entry

    def _noted(self, entry):
        self.notes.append(entry["text"])

    def _objected(self, entry):
        self.objections.append(entry["message"])

    def _summarised(self, entry):
        self._known("shard", entry["shard"], self.shards)

    def _warned(self, entry):
        pass

    def _closed(self, entry):
        self.closed = entry

    # ---------------------------------------------------------------- all of it

    def verdicts(self):
        """Suite, id, occurrence and verdict of each test as reports show them: a unit without cases is one."""
        for unit in self.units:
            for case in unit.cases:
                yield unit, case, case.verdict
            if unit.stands_for_itself():
                yield unit, None, unit.settled and unit.settled[0]

    def totals(self):
        names = Counter(verdict or "lost" for *_, verdict in self.verdicts())
        return {"tests": sum(names.values()), **{name: names[name] for name in ("passed", "failed", "skipped", "not_run", "lost")},
                "errors": names["error"]}

    def end(self):
        """What holds of a run that is over."""
        if self.closed is None:
            self.wrong("run", "it has no verdict")
            return
        for unit, case, verdict in self.verdicts():
            if verdict is None:
                self.wrong("missing", f"{case.id if case else unit.name} has no verdict")
        for lease, state in self.leases.items():
            if state.ended is None and self.closed["verdict"] == "green":
                self.wrong("lease", f"lease {lease} never ended")
        if self.locks and self.closed["verdict"] == "green":
            self.wrong("locks", f"never given back: {', '.join(sorted(self.locks))}")
        self._gate()

    def _gate(self):
        totals, verdict, code = self.totals(), self.closed["verdict"], self.closed["exit_code"]
        failures = totals["failed"] + totals["errors"]
        if verdict == "green":
            whole = totals["passed"] + totals["skipped"] == totals["tests"] and self.listed == set(range(len(self.suites)))
            if not whole or failures or self.objections or not totals["tests"]:
                self.wrong("gate", f"the run is green with {totals}")
        elif verdict == "red":
            if not failures and not self.objections:
                self.wrong("gate", "the run is red without a failure")
        elif verdict == "incomplete":
            if failures or self.objections:
                self.wrong("gate", f"the run is incomplete with {failures} failures")
        else:
            self.wrong("gate", f"{verdict!r} is no verdict of a run")
        if code not in {"green": (0,), "red": (1, 5), "incomplete": (2, 3, 4, 130)}.get(verdict, ()):
            self.wrong("gate", f"exit code {code} of a run that is {verdict}")

    def texts(self, data):
        """Each text that the ledger refers to is in the store of outputs."""
        for unit in self.units:
            for case in unit.cases:
                for attempt in case.attempts:
                    if not attempt["text"]:
                        continue
                    try:
                        digest, offset, length = text_reference(attempt["text"])
                    except Damaged as error:
                        self.wrong("texts", f"{case.id}: {error}")
                        continue
                    if blake3(data[offset:offset + length]) != digest:
                        self.wrong("texts", f"what {case.id} printed is not what is stored")
