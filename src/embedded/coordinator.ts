/**
 * The coordinator on SQLite: every operation is one transaction, on Effect's clock. The rules are those of the Redis
 * coordinator, step by step; read `redis/sync.ts` beside `sync.ts` here.
 *
 * Gotcha: another process that shares the file cannot be called by name. Whoever waits for wakes looks, when the file has
 * changed, whether something of its own has, and is silent otherwise.
 */
import { Effect, Layer, Random, Stream } from "effect"
import { Coordinator, type Grant, type Group, type Quarantined, type Sync } from "../Coordinator.ts"
import { EngineError, MemberReplaced } from "../Errors.ts"
import * as Quarantine from "../internal/quarantine.ts"
import { type Books, createTables, namesIn, openBooks } from "./books.ts"
import { Sqlite } from "./client.ts"
import { reportsOf } from "./reports.ts"
import { sync } from "./sync.ts"
import { ticksOf } from "./ticks.ts"

/** Spreads the syncs of several members that were told the same moment. */
const jitterMillis = 100

const make = Effect.gen(function* () {
  const sqlite = yield* Sqlite
  const { namespace } = sqlite
  yield* sqlite.create(createTables)

  const channel = (member: string): string => `wake:${member}`
  const change = <A>(operation: string, f: (books: Books) => A): Effect.Effect<A, EngineError> =>
    sqlite.transaction(operation, (db, now) => {
      const books = openBooks(db, namespace, now)
      const result = f(books)
      for (const member of books.concerned) sqlite.notify(channel(member))
      return result
    })

  /** Something of the member's changed since its last statement. */
  const isUntold = (member: string): Effect.Effect<boolean, EngineError> =>
    sqlite.query("wakes", (db, now) => openBooks(db, namespace, now).member(member)?.stated === null)

  return Coordinator.of({
    sync: Effect.fnUntraced(function* (request: Sync) {
      const answer = yield* change("sync", (books) => sync(books, request))
      if (answer instanceof MemberReplaced) return yield* answer
      const jitter = yield* Random.nextIntBetween(0, jitterMillis)
      return { ...answer, next: answer.next + jitter }
    }),
    leave: (member, incarnation) => change("leave", (books) => leave(books, member, incarnation)),
    wakes: (member) =>
      Stream.fromPull(
        Effect.sync(() => {
          let since: number | undefined
          return Effect.gen(function* () {
            while (true) {
              if (since !== undefined) yield* sqlite.changed(channel(member), since)
              // Taken before the look: what changes after it is a change since.
              since = sqlite.ticket(channel(member))
              if (yield* isUntold(member)) return [undefined] as const
            }
          })
        })
      ),
    pause: (processor, paused) => change("pause", (books) => pause(books, processor, paused)),
    quarantine: (grant, member, entry) =>
      change("quarantine", (books) => quarantine(books, grant, member, Quarantine.encode(member, entry))),
    quarantined: (processor) =>
      sqlite.query("quarantined", (db, now) => quarantined(openBooks(db, namespace, now), processor)),
    release: (processor, partition) => change("release", (books) => release(books, processor, partition)),
    group: (processor) => sqlite.query("group", (db, now) => describe(openBooks(db, namespace, now), processor)),
    takeEpoch: (processor, partition) => change("takeEpoch", (books) => takeEpoch(books, processor, partition)),
    removeGroup: (processor) => change("removeGroup", (books) => removeGroup(books, processor)),
    ...ticksOf(sqlite),
    ...reportsOf(sqlite)
  })
})

export const layer: Layer.Layer<Coordinator, EngineError, Sqlite> = Layer.effect(Coordinator, make)

const leave = (books: Books, member: string, incarnation: string): void => {
  const row = books.member(member)
  if (row?.incarnation !== incarnation) return
  for (const name of namesIn(row.groups)) {
    if (books.strike(name, member)) books.unsettle(books.group(name), books.now)
  }
  books.forget(member)
  books.settleDue()
  books.tell()
  books.concerned.delete(member)
}

/** What `takeEpoch` held back for the length of the pause may be granted after it. */
const pause = (books: Books, processor: string, paused: boolean): void => {
  const group = books.group(processor)
  if ((group.paused === 1) === paused) return
  if (!paused) books.letGo(processor)
  group.paused = paused ? 1 : 0
  books.save(group)
  for (const member of books.members(processor)) books.concerned.add(member)
  books.tell()
}

const describe = (books: Books, processor: string): Group => {
  const { partitions, paused, generation } = books.group(processor)
  const owners = new Array<{ readonly member: string; readonly epoch: bigint } | undefined>(partitions).fill(undefined)
  for (const { partition, owner, epoch } of books.partitions(processor)) {
    if (owner !== null && epoch !== null) owners[partition] = { member: owner, epoch: BigInt(epoch) }
  }
  return {
    processor,
    partitions,
    paused: paused === 1,
    members: books.members(processor),
    owners,
    generation,
    quarantined: books.quarantined(processor).map(({ partition }) => partition)
  }
}

/** The others take over what balance demands a little later, so that many that fail together are one change. */
const quarantine = (books: Books, { epoch, partition, processor }: Grant, member: string, entry: string): void => {
  const row = books.ownerOf(processor, partition)
  if (row === undefined || row.owner !== member || row.epoch === null || BigInt(row.epoch) !== epoch) return
  if (books.isAside(processor, partition)) return
  books.concerned.add(member)
  if (row.target !== null) books.concerned.add(row.target)
  books.putAside(processor, partition, entry)
  books.unsettle(books.group(processor), books.now + Quarantine.quarantineSettleMillis)
  books.tell()
}

const quarantined = (books: Books, processor: string): ReadonlyArray<Quarantined> =>
  books.quarantined(processor).map(({ entry, partition, since }) => ({ partition, since, ...Quarantine.decode(entry) }))

const release = (books: Books, processor: string, partition: number): boolean => {
  if (!books.takeBack(processor, partition)) return false
  books.unsettle(books.group(processor), books.now)
  books.settleDue()
  books.tell()
  return true
}

const isAlive = (books: Books, member: string): boolean => (books.member(member)?.ends ?? 0) > books.now

const takeEpoch = (books: Books, processor: string, partition: number): bigint | undefined => {
  const group = books.group(processor)
  if (group.partitions > 0 && partition >= group.partitions) {
    throw new EngineError({
      operation: "takeEpoch",
      reason: "Refused",
      detail: `processor "${processor}" has ${group.partitions} partitions, there is no partition ${partition}`
    })
  }
  const isPaused = group.paused === 1
  const isFree = isPaused || books.isAside(processor, partition)
  if (!isFree && books.members(processor).some((member) => isAlive(books, member))) return undefined
  const owner = books.ownerOf(processor, partition)?.owner
  if (owner) books.concerned.add(owner)
  // Held back while the group is paused, so that nobody is granted it before the caller is done.
  books.setOwner(processor, partition, isPaused ? "" : null, null)
  const epoch = books.nextEpoch(group)
  books.save(group)
  books.tell()
  return BigInt(epoch)
}

/** A member that comes back after all, though its lease has ended, has to look, and joins anew. */
const removeGroup = (books: Books, processor: string): boolean => {
  const members = books.members(processor)
  if (members.some((member) => isAlive(books, member))) return false
  for (const member of members) books.concerned.add(member)
  books.tell()
  books.removeGroup(processor)
  return true
}
