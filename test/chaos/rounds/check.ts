/**
 * Judges the evidence of a round, with the checker of the testing kit where it fits: owners and their commits are read
 * from the order of the outputs, which commits alone write.
 *
 * Gotcha: what nobody was told that it is stored may be stored or not; but never twice, and never out of order.
 */
import { differences, type Happened, judge } from "../../../src/testing/History.ts"
import { countingName, loadingName, work } from "../../support/rounds.ts"
import { add, type Evidence, type Numbered, sourceOf, type Unit } from "./evidence.ts"

export interface Finding {
  readonly lost: number
  readonly reordered: number
  /** Accepted from an owner that had been replaced. */
  readonly stale: number
  /** Events that began again; allowed. */
  readonly repeated: number
  readonly events: number
  /** One sentence for each thing that must not be. */
  readonly violations: ReadonlyArray<string>
}

const topic = work.name

export const check = (evidence: Evidence): Finding => {
  const verdicts = [judgeProcessors(evidence), ...judgeSources(evidence)]
  const sum = (what: "lost" | "reordered" | "stale" | "repeated"): number =>
    verdicts.reduce((total, verdict) => total + verdict[what], 0)
  const log = byKey(evidence.log)
  const stored = storedAsTried(evidence, log)
  const outputs = [countingName, loadingName].flatMap((name) =>
    differences(`outputs of ${name}`, log, byKey((evidence.units.get(name) ?? []).flatMap((unit) => unit.events)))
  )
  const totals = differences(
    "totals",
    new Map(Array.from(log, ([key, events]) => [key, [events.length]])),
    new Map(Array.from(evidence.totals, ([key, total]) => [key, [total]]))
  )
  const counts = differences(
    "counts",
    new Map(Array.from(log, ([key, events]) => [key, events.map((_, i) => i + 1)])),
    evidence.counts
  )
  const found = [...outputs, ...totals, ...counts]
  return {
    lost: sum("lost") + stored.lost + found.filter((text) => text.includes(": misses ")).length,
    reordered: sum("reordered") + stored.reordered + found.filter((text) => text.includes("out of order")).length,
    stale: sum("stale"),
    repeated: sum("repeated"),
    events: evidence.log.length,
    violations: [
      ...verdicts.flatMap((verdict) => verdict.violations),
      ...stored.violations,
      ...found,
      ...evidence.quarantined,
      ...evidence.behind
    ]
  }
}

const byKey = (events: ReadonlyArray<{ readonly key: string; readonly n: number }>): Map<string, Array<number>> => {
  const keys = new Map<string, Array<number>>()
  for (const { key, n } of events) add(keys, key, n)
  return keys
}

/** Each event at most once, in the order in which its publisher tried them, and none that it did not try. */
const storedAsTried = (evidence: Evidence, log: ReadonlyMap<string, ReadonlyArray<number>>) => {
  const violations: Array<string> = []
  let lost = 0
  let reordered = 0
  const facts = Array.from(evidence.published.values()).flat()
  const tried = byKey(facts.filter(({ what }) => what === "tried"))
  const stored = byKey(facts.filter(({ what }) => what === "stored"))
  for (const [key, ns] of log) {
    const known = new Set(tried.get(key))
    let last = 0
    for (const n of ns) {
      if (!known.has(n)) violations.push(`key ${key}: the log has ${n}, which nobody published`)
      if (n === last) violations.push(`key ${key}: the log has ${n} twice`)
      else if (n < last) {
        reordered++
        violations.push(`key ${key}: the log has ${n} after ${last}`)
      }
      last = n
    }
  }
  for (const [key, ns] of stored) {
    const there = new Set(log.get(key))
    for (const n of ns) {
      if (there.has(n)) continue
      lost++
      violations.push(`key ${key}: ${n} was acknowledged and is not in the log`)
    }
  }
  return { lost, reordered, violations }
}

/** Each source published its events in order, and every one of them stands where it was told. */
const judgeSources = ({ log, published }: Evidence) =>
  Array.from(published, ([source, facts]) => {
    const history = appended(log.filter(({ key }) => sourceOf(key) === source))
    facts.forEach(({ offset, partition, what }, sequence) => {
      if (what === "stored") history.push({ _tag: "Published", topic, partition, offset, sequence })
    })
    // What was tried last by a publisher that was killed.
    const answered = facts.filter(({ what }) => what === "stored").length
    if (facts.filter(({ what }) => what === "tried").length > answered) history.push({ _tag: "Unpublished", topic })
    return judge(history, [])
  })

const appended = (log: ReadonlyArray<Numbered>): Array<Happened> => {
  const partitions = new Map<number, Array<string>>()
  for (const { offset, partition } of log) add(partitions, partition, offset)
  return Array.from(partitions, ([partition, offsets]) => ({
    _tag: "Appended",
    topic,
    partition,
    offsets,
    emitted: false
  }))
}

/** Nothing lost, order per key in what each process handled, and every commit by the owner in force. */
const judgeProcessors = ({ handled, log, units }: Evidence) => {
  const history = appended(log)
  for (const { by, facts } of handled) {
    for (const { epoch, key, offset, partition, processor, what } of facts) {
      const _tag = what === "began" ? "Began" : "Ended"
      history.push({ _tag, processor, topic, partition, offset, key, epoch, by })
    }
  }
  for (const { offset, partition } of log) {
    // Nobody but the publishers, who are judged by themselves.
    history.push({ _tag: "Published", topic, partition, offset, sequence: history.length })
  }
  for (const [processor, all] of units) history.push(...commitsOf(processor, all, log))
  return judge(
    history,
    Array.from(units.keys(), (name) => ({ name, topics: [topic], ordered: true, strict: true }))
  )
}

/** Neighbours in an output that come from one owner are taken for one commit, which ends at the last event of them. */
const commitsOf = (
  processor: string,
  units: ReadonlyArray<Unit>,
  log: ReadonlyArray<Numbered>
): ReadonlyArray<Happened> => {
  const places = new Map(log.map(({ offset, partition }, place) => [`${partition} ${offset}`, place]))
  const history: Array<Happened> = []
  const partitions = new Map<number, Array<Unit>>()
  for (const unit of units) add(partitions, unit.partition, unit)
  for (const [partition, all] of partitions) {
    let number = 0
    let done: { readonly topic: string; readonly offset: string } | undefined
    for (let first = 0; first < all.length; ) {
      const { by, epoch } = all[first]!
      let end = first
      while (end < all.length && all[end]!.epoch === epoch && all[end]!.by === by) end++
      const events = all.slice(first, end).flatMap((unit) => unit.events)
      const last = events.reduce((last, event) =>
        places.get(`${partition} ${event.offset}`)! > places.get(`${partition} ${last.offset}`)! ? event : last
      )
      const owner = { processor, partition, epoch, incarnation: by, number }
      history.push({ _tag: "Claimed", ...owner, offsets: done === undefined ? [] : [done] })
      done = { topic, offset: last.offset }
      history.push({ _tag: "Committed", ...owner, offsets: [done] })
      number++
      first = end
    }
  }
  return history
}
