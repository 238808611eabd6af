/**
 * The coordinator on Redis: every operation is one script in the slot of `{ns}`, on the server's clock (`sync.ts`).
 *
 * | key | type | what |
 * | --- | --- | --- |
 * | `{ns}:members` | zset | member, by the end of its lease (ms) |
 * | `{ns}:incarnations` | hash | member → its incarnation, then its groups as `name count name count ...` |
 * | `{ns}:replaced` | hash | member → when its incarnation began, then the last eight that were replaced |
 * | `{ns}:stated` | hash | member → number of its last statement; removed when something of it changes |
 * | `{ns}:groups` | hash | group → `partitions paused generation counter` |
 * | `{ns}:due` | hash | group → when its targets are to be computed (ms); only while that is open |
 * | `{ns}:away` | string | when the server was found to have been away, and until when nobody is dropped for it |
 * | `{ns}:group:<group>:members` | hash | member → what it owns, with epochs, and what it is to own (msgpack) |
 * | `{ns}:group:<group>:owners` | hash | each 64 partitions → their members (msgpack); empty text: held back by `takeEpoch` |
 * | `{ns}:group:<group>:targets` | hash | each 64 partitions → their members (msgpack) |
 * | `{ns}:wake:<member>` | channel | something of this member changed |
 *
 * None of the keys expires: members are struck when their lease ends, groups stay until they are removed.
 */
import { Effect, Layer, Random, Stream } from "effect"
import { Coordinator, type Grant, type Owned, type Statement, type Sync } from "../Coordinator.ts"
import { EngineError, MemberReplaced } from "../Errors.ts"
import { groupKeys, sharedKeys } from "./books.ts"
import { Redis } from "./client.ts"
import * as Scripts from "./sync.ts"

/** Spreads the syncs of many members that were told the same moment. */
const jitterMillis = 100

const make = Effect.gen(function* () {
  const redis = yield* Redis
  const prefix = `{${redis.namespace}}:`
  const shared = sharedKeys.map((key) => prefix + key)
  const keys = (...groups: ReadonlyArray<string>): ReadonlyArray<string> =>
    shared.concat(groups.flatMap((group) => groupKeys.map((key) => `${prefix}group:${group}:${key}`)))

  const sync = Effect.fnUntraced(function* (request: Sync) {
    const groups = [...request.groups.keys()]
    const asked = pairs(request.groups)
    const changes = changesOf(groups, request)
    const further: Array<string> = []
    while (true) {
      const answer = yield* redis.run(Scripts.sync, keys(...groups, ...further), [
        request.member,
        request.incarnation,
        request.lease,
        request.settle,
        request.known.toString(),
        asked,
        declared(further),
        changes
      ])
      switch (answer[0]) {
        case "Declare":
          further.push(...answer.slice(1))
          continue
        case "Replaced":
          return yield* new MemberReplaced({ member: request.member })
        case "Partitions":
          return yield* new EngineError({
            operation: "sync",
            reason: "Refused",
            detail:
              `processor "${answer[1]}" is stored with ${answer[2]} partitions, member "${request.member}" runs it with ` +
              `${answer[3]}; give it the stored count, or remove the processor first`
          })
      }
      const jitter = yield* Random.nextIntBetween(0, jitterMillis)
      return { ...statement(answer), next: Number(answer[2]) + jitter }
    }
  })

  const leave = Effect.fnUntraced(function* (member: string, incarnation: string) {
    const groups: Array<string> = []
    while (true) {
      const answer = yield* redis.run(Scripts.leave, keys(...groups), [member, incarnation, declared(groups)])
      if (answer[0] === "Left") return
      groups.push(...answer.slice(1))
    }
  })

  const group = Effect.fnUntraced(function* (processor: string) {
    const [partitions, paused, generation, ...rest] = yield* redis.run(Scripts.describe, keys(processor), [processor])
    const members: Array<string> = []
    const owners = new Array<{ readonly member: string; readonly epoch: bigint } | undefined>(partitions).fill(
      undefined
    )
    for (let i = 0; i < rest.length; i += 2) {
      const member = rest[i]!
      members.push(member)
      for (const [partition, epoch] of owned(rest[i + 1]!)) owners[partition] = { member, epoch: BigInt(epoch) }
    }
    return { processor, partitions, paused: paused === 1, members: members.sort(), owners, generation }
  })

  const takeEpoch = Effect.fnUntraced(function* (processor: string, partition: number) {
    const answer = yield* redis.run(Scripts.takeEpoch, keys(processor), [processor, partition])
    if (typeof answer === "number") {
      return yield* new EngineError({
        operation: "takeEpoch",
        reason: "Refused",
        detail: `processor "${processor}" has ${answer} partitions, there is no partition ${partition}`
      })
    }
    return answer === null ? undefined : BigInt(answer)
  })

  return Coordinator.of({
    sync,
    leave,
    wakes: (member) => Stream.map(redis.subscribe(`${prefix}wake:${member}`), () => undefined),
    pause: (processor, paused) =>
      Effect.asVoid(redis.run(Scripts.pause, keys(processor), [processor, paused ? "1" : "0"])),
    group,
    takeEpoch,
    removeGroup: (processor) =>
      Effect.map(redis.run(Scripts.removeGroup, keys(processor), [processor]), (removed) => removed === 1)
  })
})

export const layer: Layer.Layer<Coordinator, EngineError, Redis> = Layer.effect(Coordinator, make)

const pairs = (groups: ReadonlyMap<string, number>): string =>
  [...groups].map(([group, partitions]) => `${group} ${partitions}`).join(" ")

/** Groups of others, whose keys the script asked for. */
const declared = (groups: ReadonlyArray<string>): string => groups.map((group) => `${group} 0`).join(" ")

/** As `Scripts.sync` takes them. What belongs to a group that the member leaves is free without being named. */
const changesOf = (groups: ReadonlyArray<string>, request: Sync): string => {
  if (request.released.length === 0 && request.refused.length === 0) return ""
  const flat = (group: string, grants: ReadonlyArray<Grant>): string =>
    grants
      .filter((one) => one.processor === group)
      .map((one) => `${one.partition},${one.epoch}`)
      .join(",")
  const parts = groups.flatMap((group, index) => {
    const [released, refused] = [flat(group, request.released), flat(group, request.refused)]
    return released === "" && refused === "" ? [] : [`[${index + 1},[${released}],[${refused}]]`]
  })
  return parts.length === 0 ? "" : `[${parts.join(",")}]`
}

/** `partition:epoch partition:epoch! ...`: partition, epoch, and whether it is to be given up. */
const owned = (text: string): ReadonlyArray<readonly [partition: number, epoch: string, giveUp: boolean]> =>
  text === ""
    ? []
    : text.split(" ").map((part) => {
        const colon = part.indexOf(":")
        const giveUp = part.endsWith("!")
        return [Number(part.slice(0, colon)), part.slice(colon + 1, giveUp ? -1 : undefined), giveUp]
      })

const statement = (
  answer: Extract<Scripts.Synced, readonly ["Same" | "Whole", ...ReadonlyArray<unknown>]>
): Omit<Statement, "next"> => {
  const number = BigInt(answer[1])
  if (answer[0] === "Same") return { number, mine: undefined }
  const mine: Array<Owned> = []
  for (let i = 3; i < answer.length; i += 3) {
    const processor = String(answer[i])
    const paused = answer[i + 1] === "1"
    for (const [partition, epoch, giveUp] of owned(String(answer[i + 2]))) {
      mine.push({ processor, partition, epoch: BigInt(epoch), paused, giveUp })
    }
  }
  return { number, mine }
}
