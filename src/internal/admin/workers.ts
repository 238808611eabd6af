/** Workers as they describe themselves, and those of the books that say nothing; and the schedules that they have. */
import { Effect, Option, Schema } from "effect"
import type { Broker } from "../../Broker.ts"
import { Coordinator, leaderGroup } from "../../Coordinator.ts"
import type { EngineError } from "../../Errors.ts"
import { concurrency, iso } from "./known.ts"
import type { Schedule } from "./shapes/schedules.ts"
import { type Worker, WorkerReport } from "./shapes/workers.ts"
import { visible } from "./topics.ts"

const decode = Schema.decodeUnknownOption(Schema.fromJsonString(WorkerReport))

export const workers: Effect.Effect<ReadonlyArray<Worker>, EngineError, Broker | Coordinator> = Effect.gen(
  function* () {
    const coordinator = yield* Coordinator
    const reports = new Map((yield* coordinator.reports()).map((report) => [report.member, report]))
    const members = new Map<string, Array<string>>(Array.from(reports.keys(), (member) => [member, []]))
    const groups = yield* Effect.forEach(yield* visible, ({ name }) => coordinator.group(name), { concurrency })
    for (const group of groups) {
      for (const member of group.members) {
        const known = members.get(member)
        if (known === undefined) members.set(member, [group.processor])
        else known.push(group.processor)
      }
    }
    return Array.from(members, ([member, processors]): Worker => {
      const said = reports.get(member)
      return {
        member,
        processors,
        reportedAt: said === undefined ? null : iso(said.at),
        // One of another release may say it in other words.
        report: said === undefined ? null : Option.getOrNull(decode(said.text))
      }
    }).sort((a, b) => (a.member < b.member ? -1 : 1))
  }
)

interface Known {
  kind: Schedule["kind"]
  onLeader: boolean
  next: string | null
  running: number
  readonly workers: Array<string>
}

export const schedules: Effect.Effect<ReadonlyArray<Schedule>, EngineError, Broker | Coordinator> = Effect.gen(
  function* () {
    const coordinator = yield* Coordinator
    const known = new Map<string, Known>()
    for (const { member, report } of yield* workers) {
      for (const { active, kind, name, next, onLeader, running } of report?.schedules ?? []) {
        const one: Known = known.get(name) ?? { kind, onLeader, next: null, running: 0, workers: [] }
        one.running += running
        one.workers.push(member)
        if (active && next !== null && (one.next === null || next < one.next)) one.next = next
        known.set(name, one)
      }
    }
    const ticks = new Map((yield* coordinator.ticks()).map((one) => [one.schedule, one]))
    for (const name of ticks.keys()) {
      if (!known.has(name)) known.set(name, { kind: null, onLeader: true, next: null, running: 0, workers: [] })
    }
    const leader = (yield* coordinator.group(leaderGroup)).owners[0]?.member ?? null
    return Array.from(known, ([name, { kind, next, onLeader, running, workers }]): Schedule => {
      const last = ticks.get(name)?.last
      return {
        name,
        kind,
        onLeader,
        leader: onLeader ? leader : null,
        last: last === undefined ? null : iso(last),
        next,
        running,
        workers
      }
    }).sort((a, b) => (a.name < b.name ? -1 : 1))
  }
)
