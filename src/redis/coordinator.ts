/**
 * The coordinator on Redis: every operation is one script in the slot of `{ns}`, on the server's clock (`sync.ts`).
 *
 * | key | type | what |
 * | --- | --- | --- |
 * | `{ns}:members` | zset | member, by the end of its lease (ms) |
 * | `{ns}:incarnations` | hash | member → its incarnation, then its groups as `name count name count ...` |
 * | `{ns}:replaced` | hash | member → when its incarnation began, then the last eight that were replaced |
 * | `{ns}:stated` | hash | member → number of its last statement; removed when something of it changes |
 * | `{ns}:groups` | hash | group → `partitions paused generation counter slot began`, slot being the last one given, began when it last got a member while it had none (ms) |
 * | `{ns}:due` | hash | group → when its targets are to be computed (ms); only while that is open |
 * | `{ns}:ticks` | hash | schedule → its last tick, then ` tick:epoch` for each that is claimed and not done (`ticks.ts`) |
 * | `{ns}:reports` | hash | member → when it said something about itself, until when it is kept (ms), and what it said (`reports.ts`) |
 * | `{ns}:away` | string | when the server was found to have been away, and until when nobody is dropped for it |
 * | `{ns}:group:<group>:members` | zset | member, by its rank (36 bits) and its slot (16 bits) |
 * | `{ns}:group:<group>:slots` | hash | slot → member |
 * | `{ns}:group:<group>:owners` | string | slot of each partition's owner, 2 bytes; 0: nobody; 65,535: held by `takeEpoch` |
 * | `{ns}:group:<group>:targets` | string | slot of each partition's target, 2 bytes; 0: nobody |
 * | `{ns}:group:<group>:epochs` | string | epoch of each partition's last grant, 8 bytes |
 * | `{ns}:group:<group>:quarantine` | hash | partition → when (ms), then member, reason, error, positions (JSON) |
 * | `{ns}:wake:<member>` | channel | something of this member changed |
 *
 * None of the keys expires: members are struck when their lease ends, groups stay until they are removed.
 */
import { Effect, Layer, Random, Stream } from "effect"
import { Coordinator, type Grant, type Owned, type Quarantined, type Statement, type Sync } from "../Coordinator.ts"
import { EngineError, MemberReplaced } from "../Errors.ts"
import * as Quarantine from "../internal/quarantine.ts"
import { groupKeys, sharedKeys } from "./books.ts"
import { Redis } from "./client.ts"
import { reportsOf } from "./reports.ts"
import * as Scripts from "./sync.ts"
import { ticksOf } from "./ticks.ts"

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
    let next = 0
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
        changes[next] ?? ""
      ])
      switch (answer[0]) {
        case "Declare":
          further.push(...answer.slice(1))
          continue
        case "More":
          next++
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
    const answer = yield* redis.run(Scripts.describe, keys(processor), [processor])
    const [partitions, paused, generation, slots, owners, epochs, aside] = answer
    const names = new Map<number, string>()
    for (let i = 0; i < slots.length; i += 2) names.set(Number(slots[i]), slots[i + 1]!)
    return {
      processor,
      partitions,
      paused: paused === 1,
      members: [...names.values()].sort(),
      owners: owners.map((slot, partition) => {
        const member = names.get(slot)
        return member === undefined ? undefined : { member, epoch: BigInt(epochs[partition]!) }
      }),
      generation,
      quarantined: aside.map(Number).sort((a, b) => a - b)
    }
  })

  const quarantined = Effect.fnUntraced(function* (processor: string) {
    const rows = yield* redis.call<ReadonlyArray<string>>("HGETALL", `${prefix}group:${processor}:quarantine`)
    const found: Array<Quarantined> = []
    for (let i = 0; i < rows.length; i += 2) {
      const [partition, row] = [Number(rows[i]), rows[i + 1]!]
      const space = row.indexOf(" ")
      found.push({ partition, since: Number(row.slice(0, space)), ...Quarantine.decode(row.slice(space + 1)) })
    }
    return found.sort((a, b) => a.partition - b.partition)
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
    quarantine: ({ epoch, partition, processor }, member, entry) =>
      Effect.asVoid(
        redis.run(Scripts.quarantine, keys(processor), [
          processor,
          partition,
          epoch.toString(),
          member,
          Quarantine.encode(member, entry)
        ])
      ),
    quarantined,
    release: (processor, partition) =>
      Effect.map(redis.run(Scripts.release, keys(processor), [processor, partition]), (released) => released === 1),
    group,
    takeEpoch,
    removeGroup: (processor) =>
      Effect.map(redis.run(Scripts.removeGroup, keys(processor), [processor]), (removed) => removed === 1),
    ...ticksOf(redis),
    ...reportsOf(redis)
  })
})

export const layer: Layer.Layer<Coordinator, EngineError, Redis> = Layer.effect(Coordinator, make)

const pairs = (groups: ReadonlyMap<string, number>): string =>
  [...groups].map(([group, partitions]) => `${group} ${partitions}`).join(" ")

/** Groups of others, whose keys the script asked for. */
const declared = (groups: ReadonlyArray<string>): string => groups.map((group) => `${group} 0`).join(" ")

/**
 * As `Scripts.sync` takes them, so many at a time as one run may. What belongs to a group that the member leaves is free
 * without being named.
 */
const changesOf = (groups: ReadonlyArray<string>, { refused, released }: Sync): ReadonlyArray<string> => {
  const texts: Array<string> = []
  // What was refused goes first: what is freed with it is granted anew above the epoch in force.
  for (let from = 0; from < refused.length + released.length; from += Scripts.runLimit) {
    const until = from + Scripts.runLimit
    const free = released.slice(Math.max(0, from - refused.length), Math.max(0, until - refused.length))
    const text = changeText(groups, free, refused.slice(from, until))
    if (text !== "") texts.push(text)
  }
  return texts.map((text, index) => (index < texts.length - 1 ? `+${text}` : text))
}

const changeText = (
  groups: ReadonlyArray<string>,
  released: ReadonlyArray<Grant>,
  refused: ReadonlyArray<Grant>
): string => {
  const flat = (group: string, grants: ReadonlyArray<Grant>): string =>
    grants
      .filter((one) => one.processor === group)
      .map((one) => `${one.partition},${one.epoch}`)
      .join(",")
  const parts = groups.flatMap((group, index) => {
    const [free, raise] = [flat(group, released), flat(group, refused)]
    return free === "" && raise === "" ? [] : [`[${index + 1},[${free}],[${raise}]]`]
  })
  return parts.length === 0 ? "" : `[${parts.join(",")}]`
}

const statement = (
  answer: Extract<Scripts.Synced, readonly ["Same" | "Whole", ...ReadonlyArray<unknown>]>
): Omit<Statement, "next"> => {
  const number = BigInt(answer[1])
  if (answer[0] === "Same") return { number, mine: undefined }
  const mine: Array<Owned> = []
  for (const [processor, paused, ...rest] of answer.slice(3) as ReadonlyArray<Scripts.GroupStatement>) {
    for (let i = 0; i < rest.length; i += 2) {
      const epoch = rest[i + 1]!
      const giveUp = epoch < 0
      mine.push({ processor, partition: rest[i]!, epoch: BigInt(Math.abs(epoch)), paused: paused === 1, giveUp })
    }
  }
  return { number, mine }
}
