/**
 * The windows of one partition as its owner knows them: how far time has come, what is closed by that, what is due when.
 * A window is closed from the moment its end is not above the watermark; from then on no event changes it, and `closing.ts`
 * does what is due at the next pause between events.
 */
import type { Effect } from "effect"
import type { Claim, Commit } from "../../Broker.ts"
import type { EngineError } from "../../Errors.ts"
import type { Event } from "../../Event.ts"
import type { Definition } from "../../Table.ts"
import type { WindowsDue } from "../../TableStore.ts"
import type { Received } from "../record/received.ts"
import type { Windowing } from "../window/definition.ts"
import { missing, type Row } from "./row.ts"
import type { EngineClock, TimedLog } from "./timedLog.ts"

/** A table with windows. */
export interface Cut {
  readonly definition: Definition
  readonly windowed: Windowing
  /** Its place among the processor's tables: of what is due at the same moment the first table's comes first. */
  readonly order: number
  /** Nothing is due before this time. */
  next: number
}

/** What is being closed: a window with this end, of this table. */
interface Closing {
  readonly end: number
  readonly cut: Cut
}

export class Windows {
  readonly tables: ReadonlyArray<Cut>
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
  /** The first rows that are due, as they are stored. */
  readonly ask: (cut: Cut, count: number) => Effect.Effect<WindowsDue, EngineError>
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
      return windowed === undefined ? [] : [{ definition, windowed, order, next: Number.NEGATIVE_INFINITY }]
    })
    this.logs = options.logs
    this.clock = options.clock
    this.onLate = options.onLate
    this.onDone = options.onDone
    this.ask = ({ definition }, count) => options.due(definition.name, count)
    this.usesClock = this.tables.some(({ windowed }) => windowed.window.time === "clock")
    const known = options.claimed.times.find(({ source }) => source === "")
    this.reached = this.cutReached = known?.time ?? Number.NEGATIVE_INFINITY
  }

  private find(definition: Definition): Cut {
    const found = this.tables.find((table) => table.definition === definition)
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
    if (this.find(definition).windowed.window.time === "clock") return this.monotonic()
    const { source, index } = event as Received<unknown>
    return this.logs[0]!.capped(source.time(index))
  }

  /** How far time has come for a table, its lateness not taken off. */
  private come({ windowed }: Cut): number {
    if (windowed.window.time === "clock") return this.monotonic()
    let lowest = Number.POSITIVE_INFINITY
    for (const { time } of this.logs) if (time < lowest) lowest = time
    return lowest
  }

  /** The watermark of a table: windows that end here or before are closed. */
  watermark(cut: Cut): number {
    return this.come(cut) - cut.windowed.window.lateness
  }

  /** The same for what is changed now. While a window is closed, those that close after it may still be written. */
  closed(definition: Definition): number {
    const cut = this.find(definition)
    const { closing } = this
    const { lateness, time } = cut.windowed.window
    if (closing === undefined || closing.cut.windowed.window.time !== time) return this.watermark(cut)
    const moment = momentOf(closing.cut, closing.end)
    return moment - lateness - (cut.order > closing.cut.order ? 1 : 0)
  }

  /** An event came too late for a window. */
  late(event: unknown): void {
    // It may have come too late for several.
    if (event === this.last) return
    this.last = event
    this.onLate()
  }

  /** Something may be due. */
  get isDue(): boolean {
    for (const cut of this.tables) if (cut.next <= this.watermark(cut)) return true
    return false
  }

  /** Something is due of a row that is not written; `undefined`: nothing any more. */
  defer({ definition }: Cut, key: string, at: number | undefined): void {
    this.deferred.push({ table: definition.name, key, at })
  }

  /** A commit is to store something beside offsets and rows. */
  get isDirty(): boolean {
    return this.deferred.length > 0 || this.logs.some((log) => log.isDirty)
  }

  /** What the next commit holds, with the rows that it writes. */
  cut(rows: ReadonlyArray<Row>): Commit["windows"] {
    const due = rows.flatMap(({ key, settled, table: { definition } }) =>
      definition.windowed === undefined
        ? []
        : [{ table: definition.name, key, at: settled === missing ? undefined : definition.windowed.due(key, settled) }]
    )
    if (this.deferred.length > 0) {
      due.push(...this.deferred)
      this.deferred = []
    }
    for (const { at, table } of due) {
      const cut = this.tables.find(({ definition }) => definition.name === table)!
      if (at !== undefined && at < cut.next) cut.next = at
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

/** When a window closes, its table's lateness counted. */
export const momentOf = ({ windowed }: Cut, end: number): number => end + windowed.window.lateness
