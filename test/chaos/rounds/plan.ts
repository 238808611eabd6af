/**
 * A round of chaos, all of it decided by its seed: who takes part, and which faults come when. What the processes make
 * of it is theirs: the same plan meets other moments each time it is carried out.
 */
import { Choices } from "../../../src/testing/choices.ts"

export type EngineName = "redis" | "file"

export type Fault =
  /** Killed, and started again after so many milliseconds. */
  | { readonly _tag: "Kill"; readonly worker: number; readonly away: number }
  /** Stopped for longer than its lease, then told to go on; or killed instead. */
  | { readonly _tag: "Pause"; readonly worker: number; readonly millis: number; readonly thenKill: boolean }
  /** Told to end, killed if it has not after so many milliseconds (0: never), and started again. */
  | { readonly _tag: "Restart"; readonly worker: number; readonly patience: number }
  /** All of them, one after the other. */
  | { readonly _tag: "RestartAll" }
  /** Stopped; another takes its name; then the first goes on. */
  | { readonly _tag: "Replace"; readonly worker: number; readonly millis: number }
  | { readonly _tag: "KillPublisher"; readonly publisher: number }
  /** The server ends, in order or by a kill, and is back after so many milliseconds. */
  | { readonly _tag: "ServerRestart"; readonly crash: boolean; readonly away: number }
  | { readonly _tag: "Cut" }
  | { readonly _tag: "CutAfter"; readonly bytes: number; readonly direction: "requests" | "answers" }
  | { readonly _tag: "Slow"; readonly by: number; readonly millis: number }
  /** What the server answers is swallowed for so long; then the connections break. */
  | { readonly _tag: "LoseAnswers"; readonly millis: number }
  | { readonly _tag: "Hold"; readonly millis: number }
  /** Another process keeps the file's write lock. */
  | { readonly _tag: "Lock"; readonly millis: number }

export interface Plan {
  readonly seed: number
  readonly engine: EngineName
  readonly shards: number
  /** Keys of a partition that are counted at a time. */
  readonly lanes: number
  readonly workers: ReadonlyArray<{ readonly member: string | undefined; readonly signals: boolean }>
  /** By publisher, its sources. */
  readonly publishers: ReadonlyArray<ReadonlyArray<string>>
  /** For how long faults may begin, in milliseconds. */
  readonly millis: number
  readonly faults: ReadonlyArray<{ readonly at: number; readonly fault: Fault }>
}

/** Milliseconds from `least` on, less than `most`. */
const between = (random: Choices, least: number, most: number): number => least + random.below(most - least)

const ofWorkers = (random: Choices, workers: Plan["workers"]): Fault => {
  const worker = random.below(workers.length)
  switch (random.below(8)) {
    case 0:
    case 1:
      return { _tag: "Kill", worker, away: random.chance(0.5) ? 0 : between(random, 0, 1_500) }
    case 2:
    case 3:
      return { _tag: "Pause", worker, millis: between(random, 1_100, 2_200), thenKill: random.chance(0.2) }
    case 4:
    case 5:
      return { _tag: "Restart", worker, patience: random.chance(0.2) ? between(random, 1, 100) : 0 }
    case 6:
      return { _tag: "RestartAll" }
    default:
      return workers[worker]!.member === undefined
        ? { _tag: "Kill", worker, away: 0 }
        : { _tag: "Replace", worker, millis: between(random, 0, 1_200) }
  }
}

const ofRedis = (random: Choices): Fault => {
  switch (random.below(8)) {
    case 0:
      return { _tag: "ServerRestart", crash: false, away: between(random, 0, 800) }
    case 1:
    case 2:
      return { _tag: "ServerRestart", crash: true, away: between(random, 0, 800) }
    case 3:
      return { _tag: "Cut" }
    case 4:
      return {
        _tag: "CutAfter",
        bytes: between(random, 1, 4_000),
        direction: random.chance(0.5) ? "requests" : "answers"
      }
    case 5:
      return { _tag: "Slow", by: between(random, 5, 120), millis: between(random, 200, 1_500) }
    case 6:
      return { _tag: "LoseAnswers", millis: between(random, 1, 1_500) }
    default:
      return { _tag: "Hold", millis: between(random, 50, 1_500) }
  }
}

export const planOf = (seed: number, engine: EngineName): Plan => {
  // Neighbouring seeds give unlike plans, and the engines unlike ones too.
  const random = new Choices(seed * 7_919 + (engine === "redis" ? 0 : 1))
  const workers = Array.from({ length: random.pick([2, 2, 2, 3, 3, 4]) }, (_, i) => ({
    member: random.chance(0.5) ? `worker-${i}` : undefined,
    signals: random.chance(0.5)
  }))
  const publishers = Array.from({ length: random.pick([1, 1, 2]) }, (_, i) => [`p${i}a`, `p${i}b`])
  const millis = between(random, 1_500, 2_500)
  const fault = (): Fault => {
    if (random.chance(0.08)) return { _tag: "KillPublisher", publisher: random.below(publishers.length) }
    if (engine === "file") {
      return random.chance(0.2) ? { _tag: "Lock", millis: between(random, 50, 1_500) } : ofWorkers(random, workers)
    }
    return random.chance(0.5) ? ofRedis(random) : ofWorkers(random, workers)
  }
  const faults = Array.from({ length: between(random, 3, 7) }, () => ({ at: random.below(millis), fault: fault() }))
  return {
    seed,
    engine,
    shards: engine === "redis" ? between(random, 1, 3) : 1,
    lanes: random.chance(0.3) ? 4 : 1,
    workers,
    publishers,
    millis,
    faults: faults.toSorted((a, b) => a.at - b.at)
  }
}

export const describe = (fault: Fault): string => {
  const { _tag, ...rest } = fault
  const details = Object.entries(rest).map(([name, value]) => `${name} ${value}`)
  return [_tag, ...details].join(", ")
}
