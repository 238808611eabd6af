/** The steps of a simulation: what can happen to its processes, the connections and the server, drawn by the seed. */
import { Effect } from "effect"
import type { Copy } from "../../internal/copies.ts"
import type * as Part from "../../Part.ts"
import type { Choices } from "../choices.ts"
import type { Cluster, Member } from "./cluster.ts"
import type { Ledger } from "./ledger.ts"
import type { Network, Stage } from "./network.ts"
import { type Kind, timing } from "./weather.ts"
import type { Process, World } from "./world.ts"

export interface Scene {
  readonly world: World
  readonly network: Network
  readonly cluster: Cluster
  readonly ledger: Ledger
  readonly choices: Choices
  /** Whose clock the steps are on: nothing ever happens to it. */
  readonly driver: Process
  readonly publisher: Process
  /** Workers that are meant to run, and what each of them runs. */
  readonly workers: number
  readonly parts: ReadonlyArray<Part.Any>
  /** At which calls a process may crash. */
  readonly calls: ReadonlyArray<string>
  readonly serverWentBack: boolean
}

const seconds = (millis: number): string => `${(millis / 1_000).toFixed(3)} s`

/** The coordinator's tables: on a cluster they are in a slot of their own, and may go back by themselves. */
const isCoordination = (table: string): boolean => table.startsWith("coordinator_")

export class Trouble {
  private readonly scene: Scene
  private joined = 0
  private readonly snapshots: Array<{ readonly id: number; readonly copy: Copy }> = []
  private readonly stopped = new Set<Process>()
  /** Set while a process waits for the call at which it dies. */
  private trap: { readonly member: Member; readonly method: string; readonly stage: Stage } | undefined
  constructor(scene: Scene) {
    this.scene = scene
    scene.network.watch = (client, method, stage) => this.called(client, method, stage)
  }

  join(): void {
    const member = this.scene.cluster.start(`worker-${++this.joined}`)
    this.scene.cluster.step(`${member.process.name} starts`)
  }

  /** Nothing lasts longer than this. */
  private while(): number {
    const { choices } = this.scene
    return choices.pick([0.1, 0.6, 1.5, 3]) * timing.lease * choices.next()
  }

  private later(millis: number, f: () => void): void {
    this.scene.world.at(this.scene.driver, millis, f)
  }

  private called(client: Process, method: string, stage: Stage): void {
    const { trap } = this
    if (trap === undefined || trap.member.process !== client || trap.method !== method || trap.stage !== stage) return
    this.trap = undefined
    this.crash(trap.member, `as its ${method} is ${stage}`)
  }

  private crash(member: Member, when = ""): void {
    this.scene.cluster.kill(member)
    this.scene.cluster.step(`${member.process.name} is killed ${when}`.trimEnd())
  }

  private stop(process: Process, machine: boolean): void {
    if (process.state !== "running") return
    const { choices, cluster } = this.scene
    process.stop(machine)
    this.stopped.add(process)
    // Some sleep until all is over, and wake up as if nothing had been.
    const millis = choices.chance(0.1) ? Infinity : this.while()
    const how = machine ? "is suspended with its machine" : "is stopped"
    cluster.step(`${process.name} ${how} for ${millis === Infinity ? "long" : seconds(millis)}`)
    if (millis !== Infinity) this.later(millis, () => this.continue(process))
  }

  private continue(process: Process): void {
    if (!this.stopped.delete(process) || process.state !== "stopped") return
    process.continue()
    this.scene.cluster.step(`${process.name} goes on`)
  }

  /** All that was stopped and not killed goes on; false if there was nothing. */
  continueAll(): boolean {
    const asleep = [...this.stopped].filter((process) => process.state === "stopped")
    for (const process of asleep) this.continue(process)
    return asleep.length > 0
  }

  private away(millis: number): void {
    const { cluster, network } = this.scene
    if (network.away) return
    network.away = true
    network.lose(() => true)
    cluster.step(`the server is away for ${seconds(millis)}`)
    this.later(millis, () => {
      network.away = false
      cluster.step("the server is back")
    })
  }

  /** The server is there, at its pace, and reached by all; the publisher is at work. */
  calm(): void {
    const { network, publisher } = this.scene
    network.away = false
    network.process.continue()
    network.cut.clear()
    this.trap = undefined
    this.continue(publisher)
  }

  /** Do one of these; nothing, if there is nobody to do it to. */
  readonly one = (kind: Kind): Effect.Effect<void> => {
    const { choices, cluster, ledger, network, parts, publisher, workers } = this.scene
    const { live } = cluster
    const some = live.length === 0 ? undefined : choices.pick(live)
    switch (kind) {
      case "join":
        if (live.length < workers + 2) this.join()
        break
      case "return": {
        const gone = cluster.members.filter(
          (member) => member.over && !live.some((other) => other.name === member.name)
        )
        if (gone.length === 0 || live.length > workers) break
        const { process } = cluster.start(choices.pick(gone).name)
        cluster.step(`${process.name} starts, under a name that was known`)
        break
      }
      case "leave":
        if (some === undefined) break
        cluster.leave(some)
        cluster.step(`${some.process.name} is told to leave`)
        break
      case "crash":
        if (some !== undefined) this.crash(some)
        break
      case "crash at a call": {
        if (some === undefined) break
        const method = choices.pick(this.scene.calls)
        this.trap = { member: some, method, stage: choices.pick(["sent", "applied"]) }
        break
      }
      case "stop":
      case "suspend":
        if (some !== undefined) this.stop(choices.chance(0.1) ? publisher : some.process, kind === "suspend")
        break
      case "twin": {
        if (some === undefined || live.length > workers) break
        const { process } = cluster.start(some.name)
        cluster.step(`${process.name} starts, under the name of one that runs`)
        break
      }
      case "crash all":
        for (const member of live) this.crash(member)
        break
      case "stop all":
        for (const member of live) this.stop(member.process, choices.chance(0.3))
        break
      case "cut": {
        const process = choices.chance(0.2) ? publisher : some?.process
        if (process === undefined || network.cut.has(process)) break
        const millis = this.while()
        network.cut.add(process)
        if (choices.chance(0.5)) network.lose((client) => client === process)
        cluster.step(`${process.name} cannot reach the server for ${seconds(millis)}`)
        this.later(millis, () => void network.cut.delete(process))
        break
      }
      case "disconnect": {
        const process = choices.chance(0.2) ? publisher : some?.process
        if (process === undefined) break
        network.lose((client) => client === process)
        cluster.step(`${process.name} loses its connections`)
        break
      }
      case "server away":
        this.away(this.while())
        break
      case "server stalls": {
        if (network.process.state !== "running") break
        const millis = this.while() / 2
        network.process.stop(false)
        cluster.step(`the server stalls for ${seconds(millis)}`)
        this.later(millis, () => network.process.continue())
        break
      }
      case "server's clock": {
        const by = choices.between(-2 * timing.lease, 2 * timing.lease)
        network.process.skew += by
        cluster.step(`the server's clock steps by ${seconds(by)}`)
        break
      }
      case "snapshot": {
        // A server that forgets a processor is not told of it again before a worker starts.
        const known = new Set(ledger.history.flatMap((one) => (one._tag === "Claimed" ? [one.processor] : [])))
        if (known.size < parts.length) break
        const id = this.snapshots.length + 1
        this.snapshots.push({ id, copy: network.copy() })
        ledger.snapshot(id)
        cluster.step(`snapshot ${id} is taken`)
        break
      }
      case "server went back": {
        if (this.snapshots.length === 0) break
        // Whoever went back further has lost what came after.
        const at = choices.below(this.snapshots.length)
        const { copy, id } = this.snapshots[at]!
        this.snapshots.length = at + 1
        const what = choices.pick(["the server", "the server", "its coordination", "its shard"])
        cluster.step(`${what} goes back to snapshot ${id}`)
        if (what !== "its coordination") ledger.wentBack(id)
        const isBack = (name: string): boolean =>
          what === "the server" || isCoordination(name) === (what === "its coordination")
        return network.start(
          network.copy().map((table) => copy.find(({ name }) => name === table.name && isBack(name)) ?? table)
        )
      }
    }
    return Effect.void
  }
}
