/**
 * The windows of one partition as its owner knows them: how far time has come, what is closed by that, what is due when.
 * A window is closed from the moment its end is not above the watermark; from then on no event changes it, and `closing.ts`
 * does what is due at the next pause between events.
 */
import { Effect } from "effect"
import type { Claim, Commit } from "../../Broker.ts"
import type { EngineError } from "../../Errors.ts"
import type { Event } from "../../Event.ts"
import type { Definition } from "../../Table.ts"
import type { WindowsDue } from "../../TableStore.ts"
import type { Timing } from "../../Window.ts"
import { untilAnswered } from "../backoff.ts"
import type { Holding } from "../join/held.ts"
import type { Received } from "../record/received.ts"
import type { Windowing } from "../window/definition.ts"
import { missing, type Row } from "./row.ts"
import type { EngineClock, TimedLog } from "./timedLog.ts"

/** A table of which something is due as time goes on. */
export interface Due {
  readonly definition: Definition
  readonly timing: Timing
  /** Nothing is due before this time. */
  next: number
}

/** A table with windows. */
export interface Cut extends Due {
  readonly windowed: Windowing
  /** Its place among the processor's tables: of what is due at the same moment the first table's comes first. */
  readonly order: number
}

/** What a join holds until its time is over. */
export interface Hold extends Due {
  readonly holding: Holding
}

/** What is being closed: a window with this end, of this table. */
interface Closing {
  readonly end: number
  readonly cut: Cut
}

export class Windows {
  readonly tables: ReadonlyArray<Cut>
  readonly holds: ReadonlyArray<Hold>
  /** Both. */
  readonly dues: ReadonlyArray<Due>
  readonly clock: EngineClock
  readonly logs: ReadonlyArray<TimedLog>
  closing: Closing | undefined
  /** A row with windows was written since this was last set to false. */
  wrote = false
  /** The clock, never going back, and what the last commit that was cut has of it. */
  private reached: number
  private cutReached: number
  private readonly usesClock: boolean
  private deferred: Array<NonNullable<Commit["windows"]>["due"][number]> = []
  private last: unknown
  private readonly onLate: () => void
  /** What was due is done. */
  readonly onDone: () => void
  private readonly due: (table: string, count: number) => Effect.Effect<WindowsDue, EngineError>
  constructor(options: {
    readonly definitions: ReadonlyArray<Definition>
    readonly logs: ReadonlyArray<TimedLog>
    readonly clock: EngineClock
    readonly claimed: Extract<Claim, { readonly _tag: "Claimed" }>
    readonly onLate: () => void
    readonly onDone: () => void
    readonly due: (table: string, count: number) => Effect.Effect<WindowsDue, EngineError>
  }) {
    this.tables = options.definitions.flatMap((definition, order) => {
      const { windowed } = definition
      if (windowed === undefined) return []
      return [{ definition, windowed, timing: windowed.window, order, next: Number.NEGATIVE_INFINITY }]
    })
    this.holds = options.definitions.flatMap((definition) => {
      const { holding } = definition
      return holding === undefined ? [] : [{ definition, holding, timing: holding, next: Number.NEGATIVE_INFINITY }]
    })
    this.dues = [...this.tables, ...this.holds]
    this.logs = options.logs
    this.clock = options.clock
    this.onLate = options.onLate
    this.onDone = options.onDone
    this.due = options.due
    this.usesClock = this.dues.some(({ timing }) => timing.time === "clock")
    const known = options.claimed.times.find(({ source }) => source === "")
    this.reached = this.cutReached = known?.time ?? Number.NEGATIVE_INFINITY
  }

  /** The first rows that are due, as they are stored; waits while the engine is away. */
  ask({ definition }: Due, count: number): Effect.Effect<WindowsDue["rows"]> {
    return Effect.map(untilAnswered(this.due(definition.name, count)), ({ now, rows }) => {
      this.clock.set(now)
      return rows
    })
  }

  /** Learns when something is due, before the first event is handled. */
  readonly begin: Effect.Effect<void> = Effect.suspend(() => {
    const each = Effect.forEach(this.dues, (due) =>
      Effect.map(this.ask(due, 1), ([first]) => {
        due.next = first?.at ?? Number.POSITIVE_INFINITY
      })
    )
    return Effect.andThen(each, Effect.sync(this.onDone))
  })

  private find(definition: Definition): Due {
    const found = this.dues.find((table) => table.definition === definition)
    if (found !== undefined) return found
    throw new Error(`table ${definition.name} is not declared by this processor: name it in its option "tables"`)
  }

  /** Whole milliseconds since 1970, on the engine's clock. */
  now(): number {
    return this.clock.now()
  }

  private monotonic(): number {
    return (this.reached = Math.max(this.reached, this.clock.now()))
  }

  /** The time that an event counts at. */
  timeOf(definition: Definition, event: Event<unknown>): number {
    if (this.find(definition).timing.time === "clock") return this.monotonic()
    const { source, index } = event as Received<unknown>
    return this.logs[0]!.capped(source.time(index))
  }

  /** How far time has come for a table, its lateness not taken off. */
  private come({ timing }: Due): number {
    if (timing.time === "clock") return this.monotonic()
    let lowest = Number.POSITIVE_INFINITY
    for (const { time } of this.logs) if (time < lowest) lowest = time
    return lowest
  }

  /** The watermark of a table: windows that end here or before are closed. */
  watermark(due: Due): number {
    return this.come(due) - due.timing.lateness
  }

  /** The same for what is changed now. While a window is closed, those that close after it may still be written. */
  closed(definition: Definition): number {
    const due = this.find(definition)
    const { closing } = this
    const { lateness, time } = due.timing
    if (closing === undefined || closing.cut.timing.time !== time) return this.watermark(due)
    const moment = momentOf(closing.cut, closing.end)
    return moment - lateness - ("order" in due && (due as Cut).order > closing.cut.order ? 1 : 0)
  }

  /** An event came too late for a window. */
  late(event: unknown): void {
    // It may have come too late for several.
    if (event === this.last) return
    this.last = event
    this.onLate()
  }

  /** What is read goes into a join. */
  get joins(): boolean {
    return this.holds.length > 0
  }

  /** Something may be due. */
  get isDue(): boolean {
    return this.closes || this.lets
  }

  /** A window is to be closed, or removed. */
  get closes(): boolean {
    for (const cut of this.tables) if (cut.next <= this.watermark(cut)) return true
    return false
  }

  /** The time is over for something that a join holds. */
  get lets(): boolean {
    for (const hold of this.holds) if (hold.next <= this.watermark(hold)) return true
    return false
  }

  /** Something is due of a row that is not written; `undefined`: nothing any more. */
  defer({ definition }: Due, key: string, at: number | undefined): void {
    this.deferred.push({ table: definition.name, key, at })
  }

  /** A commit is to store something beside offsets and rows. */
  get isDirty(): boolean {
    return this.deferred.length > 0 || this.logs.some((log) => log.isDirty)
  }

  /** What the next commit holds, with the rows that it writes. */
  cut(rows: ReadonlyArray<Row>): Commit["windows"] {
    const due = rows.flatMap(({ key, settled, table: { definition } }) =>
      definition.windowed === undefined && definition.holding === undefined
        ? []
        : [{ table: definition.name, key, at: settled === missing ? undefined : dueOf(definition, key, settled) }]
    )
    if (this.deferred.length > 0) {
      due.push(...this.deferred)
      this.deferred = []
    }
    for (const { at, table } of due) {
      const own = this.dues.find(({ definition }) => definition.name === table)!
      if (at !== undefined && at < own.next) own.next = at
    }
    const times = this.logs.flatMap((log) => {
      const time = log.cut()
      return time === undefined ? [] : [{ source: log.topic.name, time }]
    })
    if (this.usesClock && this.reached !== this.cutReached && this.reached !== Number.NEGATIVE_INFINITY) {
      this.cutReached = this.reached
      times.push({ source: "", time: this.reached })
    }
    return { due, times }
  }
}

const dueOf = ({ holding, windowed }: Definition, key: string, value: unknown): number | undefined =>
  windowed === undefined ? holding!.due(value) : windowed.due(key, value)

/** When a window closes, its table's lateness counted. */
export const momentOf = ({ windowed }: Cut, end: number): number => end + windowed.window.lateness
