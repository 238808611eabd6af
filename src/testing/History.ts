/**
 * Judges what happened: given what an engine accepted and what handlers saw, in the order in which it happened, it
 * counts what was lost, handled out of order, repeated, or accepted from an owner that had been replaced. Pure: histories
 * of your own (recorded from real processes, say) can be judged as well.
 *
 * Gotcha: it believes nothing that the engine says of itself. Epochs, numbers and offsets are followed from the accepted
 * claims and commits alone, and the logs are those that were read.
 */
import { compare, parseOffset } from "../internal/entryId.ts"

interface Place {
  readonly topic: string
  readonly offset: string
}

interface Owner {
  readonly processor: string
  readonly partition: number
  readonly epoch: bigint
  readonly incarnation: string
}

interface Handled {
  readonly processor: string
  readonly topic: string
  readonly partition: number
  readonly offset: string
  readonly key: string | undefined
  readonly epoch: bigint
  /** The process that handled it. */
  readonly by: string
}

export type Happened =
  /** These events came to stand in the log, in this order. */
  | {
      readonly _tag: "Appended"
      readonly topic: string
      readonly partition: number
      readonly offsets: ReadonlyArray<string>
      /** By a commit, and not by a publisher. */
      readonly emitted: boolean
    }
  /** A publisher was told where its event stands; `sequence` rises with the order in which it published. */
  | ({ readonly _tag: "Published"; readonly partition: number; readonly sequence: number } & Place)
  /** Publishing an event of this topic failed: it may be stored or not. */
  | { readonly _tag: "Unpublished"; readonly topic: string }
  /** The engine accepted an owner, and told it where to go on. */
  | ({ readonly _tag: "Claimed"; readonly number: number; readonly offsets: ReadonlyArray<Place> } & Owner)
  /** The engine applied a commit. */
  | ({ readonly _tag: "Committed"; readonly number: number; readonly offsets: ReadonlyArray<Place> } & Owner)
  | ({ readonly _tag: "Began" } & Handled)
  /** The handler came to its end, whether it failed or not; an interrupted one did not. */
  | ({ readonly _tag: "Ended" } & Handled)
  /** The server could go back to this moment; and it did: all that it accepted since is gone. */
  | { readonly _tag: "Snapshot"; readonly id: number }
  | { readonly _tag: "WentBack"; readonly id: number }

/** A processor whose work is judged. */
export interface Judged {
  readonly name: string
  readonly topics: ReadonlyArray<string>
  /** One event of a key begins after the one before it. */
  readonly ordered: boolean
  /** What a commit passes was handled by the very owner that commits it: true unless a policy takes events aside. */
  readonly strict: boolean
}

export interface Verdict {
  /** Events of the logs that nobody handled, that no commit covers, or that were committed by one that had not handled them. */
  readonly lost: number
  /** Events that an owner began after a later one of the same key. */
  readonly reordered: number
  /** Handlings that began beyond the first: after a crash, a hand-over in the middle, a retry. */
  readonly repeated: number
  /** Claims and commits that were accepted though a higher epoch, or another start under the same one, was in force. */
  readonly stale: number
  /** One sentence for each thing that must not be; repeats are allowed, and no violation. */
  readonly violations: ReadonlyArray<string>
  /** Accepted commits by processor, partition and epoch. */
  readonly commits: ReadonlyArray<{
    readonly processor: string
    readonly partition: number
    readonly epoch: bigint
    readonly commits: number
  }>
}

/** What the engine has of one partition of a processor, as far as it was accepted. */
interface Fence {
  epoch: bigint
  incarnation: string
  /** The number of the next commit. */
  number: number
  /** By topic: where the first owner began, and up to where is committed; as places in the log. */
  readonly from: Map<string, number>
  readonly done: Map<string, number>
}

interface Log {
  readonly offsets: Array<string>
  /** How many events stand up to and including this one. */
  readonly places: Map<string, number>
}

interface Engine {
  readonly logs: Map<string, Log>
  readonly fences: Map<string, Fence>
}

export const judge = (history: ReadonlyArray<Happened>, processors: ReadonlyArray<Judged>): Verdict => {
  const known = new Map(processors.map((processor) => [processor.name, processor]))
  const violations: Array<string> = []
  const counted = { lost: 0, reordered: 0, repeated: 0, stale: 0 }
  const violation = (what: "lost" | "reordered" | "stale" | undefined, text: string): void => {
    if (what !== undefined) counted[what]++
    violations.push(text)
  }
  let engine: Engine = { logs: new Map(), fences: new Map() }
  const snapshots = new Map<number, Engine>()
  const commits = new Map<string, { processor: string; partition: number; epoch: bigint; commits: number }>()
  /** How often each event began; and which came to their end, in all and by owner. */
  const times = new Map<string, number>()
  const ended = new Set<string>()
  const endedBy = new Set<string>()
  /** The offset that an owner began last, by key. */
  const begun = new Map<string, string>()

  const logOf = (topic: string, partition: number): Log => {
    const id = `${topic}/${partition}`
    let log = engine.logs.get(id)
    if (log === undefined) engine.logs.set(id, (log = { offsets: [], places: new Map() }))
    return log
  }
  /** How many events of the log stand up to and including this offset, which need not be one of them. */
  const upTo = ({ offset, topic }: Place, partition: number): number => {
    const { offsets, places } = logOf(topic, partition)
    const known = places.get(offset)
    if (known !== undefined) return known
    let place = offsets.length
    while (place > 0 && later(offsets[place - 1]!, offset)) place--
    return place
  }
  const ownerOf = ({ epoch, partition, processor }: Owner | Handled): string => `${processor}/${partition}@${epoch}`

  const claimed = (claim: Extract<Happened, { _tag: "Claimed" }>): void => {
    const { epoch, incarnation, number, offsets, partition, processor } = claim
    const id = `${processor}/${partition}`
    const fence = engine.fences.get(id)
    if (fence === undefined) {
      const places = new Map(offsets.map((place) => [place.topic, upTo(place, partition)]))
      engine.fences.set(id, { epoch, incarnation, number, from: places, done: new Map(places) })
      return
    }
    if (epoch < fence.epoch || (epoch === fence.epoch && incarnation !== fence.incarnation)) {
      violation("stale", `${id}: a claim with epoch ${epoch} was accepted while ${fence.epoch} was in force`)
    }
    if (number !== fence.number) {
      violation(undefined, `${id}: a claim was told commit number ${number}, and ${fence.number} is next`)
    }
    for (const place of offsets) {
      const done = fence.done.get(place.topic) ?? 0
      const told = upTo(place, partition)
      if (told !== done) {
        violation(
          undefined,
          `${id}: a claim was told to go on after event ${told} of ${place.topic}, and ${done} are done`
        )
      }
    }
    fence.epoch = epoch
    fence.incarnation = incarnation
  }

  const committed = (commit: Extract<Happened, { _tag: "Committed" }>): void => {
    const { epoch, incarnation, number, offsets, partition, processor } = commit
    const id = `${processor}/${partition}`
    const fence = engine.fences.get(id)
    if (fence === undefined) return violation("stale", `${id}: a commit was accepted before any claim`)
    if (epoch !== fence.epoch || incarnation !== fence.incarnation) {
      violation("stale", `${id}: a commit of epoch ${epoch} was accepted while ${fence.epoch} was in force`)
    }
    if (number !== fence.number) {
      violation(undefined, `${id}: commit number ${number} was accepted, and ${fence.number} was next`)
    }
    fence.number = number + 1
    const tally = commits.get(ownerOf(commit)) ?? { processor, partition, epoch, commits: 0 }
    tally.commits++
    commits.set(ownerOf(commit), tally)
    for (const place of offsets) {
      const before = fence.done.get(place.topic) ?? 0
      const after = upTo(place, partition)
      if (after < before)
        violation(undefined, `${id}: a commit went back from event ${before} to ${after} of ${place.topic}`)
      fence.done.set(place.topic, after)
      if (known.get(processor)?.strict !== true) continue
      for (const offset of logOf(place.topic, partition).offsets.slice(before, after)) {
        if (endedBy.has(`${ownerOf(commit)} ${place.topic} ${offset}`)) continue
        violation(
          "lost",
          `${id}: ${place.topic} ${offset} was committed under epoch ${epoch}, which had not handled it`
        )
      }
    }
  }

  const eventOf = ({ offset, partition, processor, topic }: Handled): string =>
    `${processor} ${topic}/${partition} ${offset}`

  const began = (event: Extract<Happened, { _tag: "Began" }>): void => {
    times.set(eventOf(event), (times.get(eventOf(event)) ?? 0) + 1)
    if (event.key === undefined || known.get(event.processor)?.ordered !== true) return
    const lane = `${ownerOf(event)} ${event.by} ${event.topic} ${event.key}`
    const last = begun.get(lane)
    // The same one again is a retry.
    if (last !== undefined && later(last, event.offset)) {
      const where = `${event.processor}/${event.partition}, key ${event.key}`
      violation("reordered", `${where}: ${event.by} began ${event.offset} after ${last}`)
    } else begun.set(lane, event.offset)
  }

  const published: Array<Extract<Happened, { _tag: "Published" }>> = []
  const uncertain = new Set<string>()
  const appended: Array<Place & { readonly partition: number }> = []
  let wentBack = false
  const checkPublished = (): void => {
    const last = new Map<string, { readonly offset: string; readonly sequence: number }>()
    const stored = new Set<string>()
    for (const event of published.toSorted((a, b) => a.sequence - b.sequence)) {
      const { offset, partition, sequence, topic } = event
      const id = `${topic}/${partition}`
      stored.add(`${id} ${offset}`)
      if (!logOf(topic, partition).places.has(offset)) {
        violation("lost", `${id}: event ${sequence} was stored at ${offset}, and is not there`)
      }
      const before = last.get(id)
      if (before !== undefined && !later(offset, before.offset)) {
        violation("reordered", `${id}: event ${sequence} stands at ${offset}, not after event ${before.sequence}`)
      }
      last.set(id, event)
    }
    for (const { offset, partition, topic } of appended) {
      if (uncertain.has(topic) || stored.has(`${topic}/${partition} ${offset}`)) continue
      violation(
        undefined,
        `${topic}/${partition}: ${offset} was stored, and no publisher was told of it: stored twice?`
      )
    }
  }

  for (const one of history) {
    switch (one._tag) {
      case "Appended": {
        const log = logOf(one.topic, one.partition)
        for (const offset of one.offsets) {
          const last = log.offsets.at(-1)
          if (last !== undefined && !later(offset, last)) {
            violation(undefined, `${one.topic}/${one.partition}: ${offset} was appended after ${last}`)
          }
          log.places.set(offset, log.offsets.push(offset))
          if (!one.emitted) appended.push({ topic: one.topic, partition: one.partition, offset })
        }
        break
      }
      case "Published":
        published.push(one)
        break
      case "Unpublished":
        uncertain.add(one.topic)
        break
      case "Claimed":
        claimed(one)
        break
      case "Committed":
        committed(one)
        break
      case "Began":
        began(one)
        break
      case "Ended":
        ended.add(eventOf(one))
        endedBy.add(`${ownerOf(one)} ${one.topic} ${one.offset}`)
        break
      case "Snapshot":
        snapshots.set(one.id, structuredClone(engine))
        break
      case "WentBack":
        engine = structuredClone(snapshots.get(one.id) ?? engine)
        wentBack = true
    }
  }
  // What a server lost that went back is not there; nobody can say more of it.
  if (!wentBack) checkPublished()

  for (const { name, topics } of processors) {
    for (const [id, { offsets }] of engine.logs) {
      const topic = id.slice(0, id.lastIndexOf("/"))
      if (!topics.includes(topic)) continue
      const partition = Number(id.slice(topic.length + 1))
      const fence = engine.fences.get(`${name}/${partition}`)
      const done = fence?.done.get(topic) ?? 0
      for (let place = fence?.from.get(topic) ?? 0; place < offsets.length; place++) {
        const offset = offsets[place]!
        const handled = ended.has(`${name} ${id} ${offset}`)
        if (handled && place < done) continue
        violation(
          "lost",
          `${name}: ${id} ${offset} ${handled ? "was handled and never committed" : "was never handled"}`
        )
      }
    }
  }
  for (const count of times.values()) counted.repeated += count - 1
  return { ...counted, violations, commits: [...commits.values()] }
}

const later = (a: string, b: string): boolean => {
  const [first, second] = [parseOffset(a), parseOffset(b)]
  if (first === undefined || second === undefined) throw new Error(`not an offset: ${first === undefined ? a : b}`)
  return (compare(first.id, second.id) || first.index - second.index) > 0
}

/**
 * Compares what should be there once each and in order (say, the inputs of each key) with what is (a table's rows, the
 * emitted outputs): one sentence for each difference.
 */
export const differences = (
  what: string,
  expected: ReadonlyMap<string, ReadonlyArray<unknown>>,
  actual: ReadonlyMap<string, ReadonlyArray<unknown>>
): ReadonlyArray<string> => {
  const found: Array<string> = []
  for (const key of new Set([...expected.keys(), ...actual.keys()])) {
    const wanted = expected.get(key) ?? []
    const there = actual.get(key) ?? []
    const missing = wanted.filter((item) => !there.includes(item))
    const count = (items: ReadonlyArray<unknown>, item: unknown): number => items.filter((one) => one === item).length
    const twice = wanted.filter((item) => count(there, item) > count(wanted, item))
    const foreign = there.filter((item) => !wanted.includes(item))
    const say = (problem: string, items: ReadonlyArray<unknown>): void => {
      if (items.length > 0) found.push(`${what}, key ${key}: ${problem} ${items.join(", ")}`)
    }
    say("misses", missing)
    say("has more than once", twice)
    say("has what was never put in:", foreign)
    if (missing.length + twice.length + foreign.length === 0 && wanted.some((item, i) => item !== there[i])) {
      say("is out of order:", there)
    }
  }
  return found
}
