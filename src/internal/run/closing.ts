/**
 * Does what is due of windows, at a pause between events: closes those that the watermark has passed, each with `onClose`
 * as a unit of work of its own, and removes those that were kept for long enough. What comes of a close (writes, emits,
 * the row, the due list) is one commit.
 *
 * Gotcha: nothing of the partition is in hand then, so that no unit of work that is not committed has written a window.
 */
import { Cause, DateTime, Deferred, Effect, Exit, Semaphore } from "effect"
import type { Quarantine } from "../../Coordinator.ts"
import type { Closed } from "../../Table.ts"
import { parseOffset } from "../entryId.ts"
import { Received, Source } from "../record/received.ts"
import { startOf } from "../window/aligned.ts"
import { textOf } from "../window/definition.ts"
import * as Neighbours from "../window/neighbours.ts"
import * as Sessions from "../window/sessions.ts"
import type { Definition, Wrap } from "./definition.ts"
import { failed, isParked } from "./failing.ts"
import { Lane } from "./lane.ts"
import { missing, type Row } from "./row.ts"
import type { Halted, Setup } from "./runner.ts"
import { type Cut, momentOf, type Windows } from "./windows.ts"

/** Rows that are looked at together. */
const pageRows = 100

export interface Closings {
  readonly windows: Windows
  /** Do what is due. Waits until nothing is in hand. */
  readonly close: Effect.Effect<void>
  /** Held while a window is closed: whoever handles events beside the runner takes it too. */
  readonly turn: Semaphore.Semaphore
  /** Fails when `onClose` did, and no policy took it. */
  readonly halted: Effect.Effect<never, Halted>
}

/** Stands for the event in a unit of work that closes a window. */
class ClosingEvent extends Received<unknown> {
  private readonly place: string
  constructor(value: Closed<unknown, unknown>, source: Source, place: string) {
    super(value, source, 0)
    this.place = place
  }
  override get offset(): string {
    return this.place
  }
}

/** A window as it closes. */
interface Ripe {
  readonly start: number
  readonly end: number
  readonly value: unknown
}

/** There is no event to put back or aside: such a policy does not take a failure of a close. */
const policies = (wraps: ReadonlyArray<Wrap>): ReadonlyArray<Wrap> =>
  wraps.flatMap((wrap): ReadonlyArray<Wrap> => {
    if (wrap._tag === "Around") return []
    if (wrap._tag === "Retry") return [wrap]
    return [
      {
        ...wrap,
        settle: (cause, event) => {
          const settlement = wrap.settle(cause, event)
          return settlement?._tag === "Ignore" || settlement?._tag === "Quarantine" ? settlement : undefined
        }
      }
    ]
  })

export const make = (given: Setup, windows: Windows): Closings => {
  const { definition, partition } = given
  const setup: Setup = { ...given, definition: { ...definition, wraps: policies(definition.wraps) } }
  const { parking, rows } = partition
  const lane = new Lane(setup)
  const { unit } = lane
  const turn = Semaphore.makeUnsafe(1)
  const halted = Deferred.makeUnsafe<never, Halted>()
  const handlers = new Map(definition.tables.map((table) => [table.name, onCloseOf(definition, table.name)]))

  /** Nothing is in hand; false: it is not the time for this. */
  const quiet: Effect.Effect<boolean> = Effect.suspend(() => {
    if (!partition.open || partition.aside !== undefined) return Effect.succeed(false)
    if (partition.taken === 0 && parking.busy === 0) {
      return Effect.map(setup.flush, () => partition.open && !partition.fenced)
    }
    return Effect.flatMap(Effect.raceFirst(partition.landing(), partition.bars.await), () => quiet)
  })

  /** What is staged goes into the next commit, as soon as that has room; false: it never will. */
  const place = (placed: () => void): Effect.Effect<boolean> =>
    Effect.suspend(() => {
      if (partition.fenced) return Effect.succeed(false)
      if (!partition.takes(unit)) return Effect.flatMap(setup.flush, () => place(placed))
      if (unit.emits.length > 0) partition.emit(unit.emits, unit.bytes)
      unit.settle()
      placed()
      partition.touched()
      return Effect.succeed(true)
    })

  /** `stage` writes what becomes of the row, behind what the handler did. */
  const closeOne = (
    cut: Cut,
    row: Row,
    ripe: Ripe,
    stage: () => void,
    placed: () => void
  ): Effect.Effect<boolean, Halted> => {
    const handler = handlers.get(cut.definition.name)
    const finish = (): Effect.Effect<boolean> => {
      stage()
      return place(placed)
    }
    if (handler === undefined) return Effect.suspend(finish)
    const event = eventOf(setup, cut, row, ripe)
    const again: Effect.Effect<boolean, Halted> = Effect.suspend(() => {
      unit.event = event
      windows.closing = { end: ripe.end, cut }
      const handled = Effect.onExit(
        Effect.suspend(() => handler(event.value as Closed<unknown, unknown>)),
        lane.close
      )
      return Effect.flatMap(Effect.exit(handled), (exit) => {
        windows.closing = undefined
        if (Exit.isSuccess(exit) && !unit.tooLarge) return finish()
        const cause = Exit.isSuccess(exit) ? Cause.fail(unit.excess(definition.name)) : exit.cause
        unit.undo()
        return Effect.flatMap(failed(setup, unit, [event], cause, 0), (outcome): Effect.Effect<boolean, Halted> => {
          if (outcome === "again") return again
          if (outcome === "settled") return finish()
          if (outcome === "stopped" || isParked(outcome as Quarantine)) return Effect.succeed(false)
          setup.quarantine(outcome as Quarantine)
          return Effect.succeed(false)
        })
      })
    })
    return again
  }

  /** A row of fixed windows; false: no more is to be done now. */
  const aligned = (cut: Cut, row: Row, at: number, size: number): Effect.Effect<boolean, Halted> => {
    const start = startOf(row.key)
    const end = start + size
    const drop = (): void => {
      if (row.value === missing) windows.defer(cut, row.key, undefined)
      else unit.write(row, missing)
    }
    if (at !== end || row.value === missing) {
      drop()
      return place(() => {})
    }
    const kept = start + cut.windowed.window.retain
    const isKept = kept > end
    return closeOne(
      cut,
      row,
      { start, end, value: row.table.read(row) },
      () => (isKept ? undefined : drop()),
      () => (isKept ? windows.defer(cut, row.key, kept) : undefined)
    )
  }

  /** The one row of a key: all of its windows that are due, unless one of them wrote to other windows. */
  const keyed = (cut: Cut, row: Row, steps: Steps, isFirst = true): Effect.Effect<boolean, Halted> =>
    Effect.suspend(() => {
      const upTo = windows.watermark(cut)
      const state = row.value === missing ? undefined : row.table.read(row)
      if (state === undefined) {
        windows.defer(cut, row.key, undefined)
        return place(() => {})
      }
      const ripe = isFirst || !windows.wrote ? steps.ripe(state, upTo) : undefined
      if (ripe === undefined) {
        const left = steps.prune(state, upTo)
        unit.write(row, steps.isEmpty(left) ? missing : left)
        return place(() => {})
      }
      // `onClose` may have written to other windows of this very key.
      const closed = (): void => unit.write(row, steps.close(row.table.read(row), ripe.token))
      const done =
        ripe.window === undefined
          ? Effect.flatMap(Effect.sync(closed), () => place(() => {}))
          : closeOne(cut, row, ripe.window, closed, () => {})
      return Effect.flatMap(done, (go) =>
        go && partition.open ? keyed(cut, row, steps, false) : Effect.succeed(false)
      )
    })

  const one = (cut: Cut, key: string, at: number): Effect.Effect<boolean, Halted> => {
    const table = rows.table(cut.definition)
    const { shape } = cut.windowed.window
    const loaded = (row: Row): Effect.Effect<boolean, Halted> =>
      shape._tag === "Aligned" ? aligned(cut, row, at, shape.size) : keyed(cut, row, stepsOf(cut))
    const name = shape._tag === "Aligned" ? key : cut.windowed.key(key)
    const row = rows.cached(table, name)
    return row === undefined ? Effect.flatMap(rows.load(table, name), loaded) : loaded(row)
  }

  /** What is due by now, in the order of moments; more may be due afterwards. */
  const round = Effect.gen(function* () {
    const all: Array<{ readonly cut: Cut; readonly key: string; readonly at: number }> = []
    const next = new Map<Cut, number>()
    for (const cut of windows.tables) {
      if (cut.next > windows.watermark(cut)) continue
      const found = yield* windows.ask(cut, pageRows)
      const upTo = windows.watermark(cut)
      for (const { at, key } of found) if (at <= upTo) all.push({ cut, key, at })
      const later = found.find(({ at }) => at > upTo)
      next.set(cut, later?.at ?? (found.length === pageRows ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY))
    }
    all.sort((a, b) => momentOf(a.cut, a.at) - momentOf(b.cut, b.at) || a.cut.order - b.cut.order)
    // From here on `cut` tells what is written meanwhile.
    for (const [cut, at] of next) cut.next = at
    windows.wrote = false
    for (let i = 0; i < all.length; i++) {
      const { at, cut, key } = all[i]!
      const before = all[i - 1]
      // What was written there may be due before what comes now.
      const isLater = before !== undefined && (before.cut !== cut || before.at !== at)
      if ((isLater && windows.wrote) || !partition.open) {
        for (const rest of all.slice(i)) rest.cut.next = Math.min(rest.cut.next, rest.at)
        break
      }
      if (yield* one(cut, key, at)) continue
      for (const rest of all.slice(i)) rest.cut.next = Math.min(rest.cut.next, rest.at)
      return false
    }
    yield* setup.flush
    // There may have been nothing to commit.
    windows.onDone()
    return true
  })

  const attempt: Effect.Effect<boolean, Halted> = Effect.flatMap(quiet, (isQuiet) => {
    if (!isQuiet) return Effect.succeed(true)
    const rounds = Effect.suspend(() =>
      // One that began meanwhile goes first.
      partition.taken > 0 || parking.busy > 0 ? Effect.succeed(false) : Effect.as(round, true)
    )
    return turn.withPermits(1)(rounds)
  })
  const close: Effect.Effect<void, Halted> = Effect.flatMap(attempt, (done) =>
    done ? Effect.void : Effect.suspend(() => close)
  )
  return {
    windows,
    close: Effect.catch(Effect.provideContext(close, lane.context), (error) =>
      Effect.andThen(Deferred.fail(halted, error), Effect.never)
    ),
    turn,
    halted: Deferred.await(halted)
  }
}

/** What is done to the one row of a key. */
interface Steps {
  readonly ripe: (
    state: unknown,
    upTo: number
  ) => { readonly token: unknown; readonly window: Ripe | undefined } | undefined
  readonly close: (state: unknown, token: unknown) => unknown
  readonly prune: (state: unknown, upTo: number) => unknown
  readonly isEmpty: (state: unknown) => boolean
}

const stepsOf = ({ windowed: { window } }: Cut): Steps => {
  const { retain, shape } = window
  if (shape._tag === "Sliding") {
    type State = Neighbours.Neighbours<unknown>
    return {
      ripe: (state, upTo) => {
        const time = Neighbours.ripe(state as State, shape, upTo)
        if (time === undefined) return undefined
        const box = Neighbours.at(state as State, time, shape)
        const window = box && { start: time - shape.before, end: time + shape.after + 1, value: box.value }
        return { token: time, window }
      },
      close: (state, time) => Neighbours.close(state as State, time as number),
      prune: (state, upTo) => Neighbours.prune(state as State, shape, upTo, retain),
      isEmpty: (state) => (state as State).times.length === 0 && (state as State).pieces.length === 0
    }
  }
  type State = Sessions.Sessions<unknown>
  return {
    ripe: (state, upTo) => {
      const session = Sessions.ripe(state as State, upTo)
      return session && { token: session, window: session }
    },
    close: (state, session) => Sessions.close(state as State, session as Sessions.Session<unknown>),
    prune: (state, upTo) => Sessions.prune(state as State, upTo, retain),
    isEmpty: (state) => (state as State).length === 0
  }
}

const onCloseOf = (definition: Definition, name: string) => {
  const table = definition.tables.find((table) => table.name === name)
  return table !== undefined && "onClose" in table ? table.onClose : undefined
}

const bytes = (text: string): Uint8Array => Buffer.from(text)

const eventOf = ({ partition }: Setup, { windowed }: Cut, row: Row, { end, start, value }: Ripe): ClosingEvent => {
  const [log] = partition.logs
  const { position } = partition
  const entry = { id: parseOffset(position)?.id ?? "0-0", count: 1, fields: [] }
  // In the window itself, for tables of longer windows that `onClose` writes.
  const time = bytes(String(end - 1))
  const key = row.topicKey === undefined ? undefined : bytes(row.topicKey)
  const source = new Source(
    log!.topic.name,
    partition.partition,
    entry,
    log!.origin,
    partition.fence.epoch,
    key,
    undefined,
    time,
    false,
    () => []
  )
  const closed = {
    key: windowed.key(textOf(windowed, row.key)),
    value,
    start: DateTime.makeUnsafe(start),
    end: DateTime.makeUnsafe(end)
  }
  return new ClosingEvent(closed, source, position)
}
