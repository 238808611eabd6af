/**
 * The coordinator's `sync` on SQLite, step by step as protocol and Redis script have it: leases and the dead, a new
 * start under a known name, joins, releases, targets, grants, the statement.
 *
 * Gotcha: everything that can refuse a sync is looked at before anything is written.
 */
import type { Owned, Statement, Sync } from "../Coordinator.ts"
import { EngineError, MemberReplaced } from "../Errors.ts"
import { type Books, type GroupRow, type MemberRow, namesIn } from "./books.ts"

/** How many earlier starts under one name are remembered as replaced. */
const replacedKept = 8

/** The statement, without jitter; or what the sync fails with. */
export const sync = (books: Books, request: Sync): Statement | MemberReplaced => {
  const { now } = books
  const me = request.member
  const before = books.member(me)
  const asked = [...request.groups].map(([name, partitions]) => `${name} ${partitions}`).join(" ")
  if (isSteady(books, request, before, asked)) {
    books.saveMember(me, { ...before!, ends: now + request.lease })
    return { number: request.known, mine: undefined, next: nextOf(books, request, []) }
  }
  const isNew = before !== undefined && before.incarnation !== request.incarnation
  if (isNew && isOld(request, before)) return new MemberReplaced({ member: me })
  const mine = [...request.groups].map(([name, partitions]) => checked(books.group(name), partitions, me))

  dropEnded(books, request)
  books.saveMember(me, {
    incarnation: request.incarnation,
    groups: asked,
    since: before === undefined || isNew ? now : before.since,
    replaced: isNew ? remembered(before) : (before?.replaced ?? ""),
    stated: before?.stated ?? null,
    ends: now + request.lease
  })
  if (isNew) books.concerned.add(me)
  for (const name of namesIn(before?.groups ?? "")) {
    if (!request.groups.has(name) && books.strike(name, me)) books.unsettle(books.group(name), now)
  }
  for (const group of mine) enter(books, request, group, isNew)
  release(books, request)
  books.settleDue()

  const isWhole = books.concerned.has(me) || before?.stated == null || BigInt(before.stated) !== request.known
  const statement = isWhole ? mine.flatMap((group) => state(books, group, me)) : undefined
  books.tell()
  books.concerned.delete(me)
  let number = request.known
  if (isWhole) {
    const stated = Math.max(Number(request.known) + 1, (before?.stated ?? 0) + 1, now)
    books.saveMember(me, { ...books.member(me)!, stated })
    number = BigInt(stated)
  }
  return { number, mine: statement, next: nextOf(books, request, mine) }
}

/** A heartbeat: nothing to do but extend the lease. */
const isSteady = (books: Books, request: Sync, before: MemberRow | undefined, asked: string): boolean =>
  before !== undefined &&
  before.stated !== null &&
  BigInt(before.stated) === request.known &&
  request.released.length === 0 &&
  request.refused.length === 0 &&
  before.incarnation === request.incarnation &&
  before.groups === asked &&
  books.firstEnd()! > books.now &&
  !books.anyDue()

/**
 * An old start is one that was seen to be replaced, or one whose last statement is older than the start in the books. (A
 * later statement than that start means that the engine went back: then it is the books that are old.)
 */
const isOld = (request: Sync, before: MemberRow): boolean =>
  before.replaced.split(" ").includes(request.incarnation) || (request.known !== 0n && request.known < before.since)

const checked = (group: GroupRow, partitions: number, member: string): GroupRow => {
  if (group.partitions > 0 && group.partitions !== partitions) {
    throw partitionsRefused(group.name, group.partitions, member, partitions)
  }
  return group
}

const partitionsRefused = (processor: string, stored: number, member: string, asked: number): EngineError =>
  new EngineError({
    operation: "sync",
    reason: "Refused",
    detail:
      `processor "${processor}" is stored with ${stored} partitions, member "${member}" runs it with ${asked}; ` +
      `give it the stored count, or remove the processor first`
  })

const remembered = (before: MemberRow): string =>
  [before.incarnation, ...before.replaced.split(" ")].slice(0, replacedKept).join(" ").trim()

const dropEnded = (books: Books, request: Sync): void => {
  const first = books.firstEnd()
  if (first === undefined || first > books.now) return
  for (const member of books.takeEnded(Math.floor(request.lease / 3))) {
    if (member === request.member) continue
    for (const name of namesIn(books.member(member)?.groups ?? "")) {
      if (books.strike(name, member)) books.unsettle(books.group(name), books.now + request.settle)
    }
    books.forget(member)
  }
}

/** Join a group, or go on in it; a new start keeps its partitions there, each with a new epoch. */
const enter = (books: Books, request: Sync, group: GroupRow, isNew: boolean): void => {
  const me = request.member
  if (!books.isIn(group.name, me)) {
    const isAlone = books.members(group.name).length === 0
    group.partitions = request.groups.get(group.name)!
    books.save(group)
    books.enter(group.name, me, isAlone)
    books.unsettle(group, isAlone ? books.now : books.now + request.settle)
    books.concerned.add(me)
  } else if (isNew) {
    for (const { partition } of books.owned(group.name, me)) {
      books.setOwner(group.name, partition, me, books.nextEpoch(group))
    }
    books.save(group)
  }
}

/** A release frees its very epoch. A refusal frees any epoch up to the one that is in force at the shard. */
const release = (books: Books, request: Sync): void => {
  const me = request.member
  const free = (name: string, partition: number, isMeant: (epoch: number) => boolean): void => {
    if (!request.groups.has(name)) return
    const row = books.ownerOf(name, partition)
    if (row === undefined || row.owner !== me || row.epoch === null || !isMeant(row.epoch)) return
    books.setOwner(name, partition, null, null)
    books.concerned.add(me)
    if (row.target !== null) books.concerned.add(row.target)
  }
  for (const { processor, partition, epoch } of request.released) {
    free(processor, partition, (held) => BigInt(held) === epoch)
  }
  for (const { processor, partition, epoch } of request.refused) {
    if (!request.groups.has(processor)) continue
    const group = books.group(processor)
    group.counter = Math.max(group.counter, Number(epoch))
    books.save(group)
    free(processor, partition, (held) => BigInt(held) <= epoch)
  }
}

/** Grant what is targeted at me and free; then all that is mine. */
const state = (books: Books, group: GroupRow, me: string): ReadonlyArray<Owned> => {
  const open = books.open(group.name, me)
  for (const partition of open) books.setOwner(group.name, partition, me, books.nextEpoch(group))
  if (open.length > 0) books.save(group)
  return books.owned(group.name, me).map(({ partition, epoch, target }) => ({
    processor: group.name,
    partition,
    epoch: BigInt(epoch!),
    paused: group.paused === 1,
    giveUp: target !== null && target !== me
  }))
}

/** A third of the lease; earlier when targets are due or the lease of another ends. */
const nextOf = (books: Books, request: Sync, mine: ReadonlyArray<GroupRow>): number => {
  let next = Math.floor(request.lease / 3)
  for (const group of mine) if (group.due !== null) next = Math.min(next, group.due - books.now)
  const end = books.firstEnd(request.member)
  if (end !== undefined) next = Math.min(next, (end > books.now ? end : books.away().until) - books.now)
  return Math.max(next, 0)
}
