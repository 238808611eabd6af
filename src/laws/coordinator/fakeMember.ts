/**
 * A member without a runtime: it syncs, obeys the statement, and gives up what is wanted elsewhere with its next sync.
 * It counts its lease as a worker does, from the moment before it asked.
 */
import { Clock, Effect } from "effect"
import type { Coordinator, Grant, Owned, Statement, Sync } from "../../Coordinator.ts"

export interface Timing {
  readonly lease: number
  readonly settle: number
}

export const keyOf = (grant: { readonly processor: string; readonly partition: number }): string =>
  `${grant.processor}/${grant.partition}`

export class FakeMember {
  readonly coordinator: Coordinator["Service"]
  readonly name: string
  readonly timing: Timing
  groups: ReadonlyMap<string, number>
  incarnation: string
  known = 0n
  next = 0
  leaseEnd = 0
  /** What it believes to own, and what of it has to go. */
  readonly running = new Map<string, Owned>()
  release: Array<Grant> = []

  constructor(
    coordinator: Coordinator["Service"],
    name: string,
    groups: Readonly<Record<string, number>>,
    timing: Timing,
    incarnation = `${name}-1`
  ) {
    this.coordinator = coordinator
    this.name = name
    this.groups = new Map(Object.entries(groups))
    this.timing = timing
    this.incarnation = incarnation
  }

  request(changes: Partial<Sync> = {}): Sync {
    return {
      member: this.name,
      incarnation: this.incarnation,
      ...this.timing,
      known: this.known,
      groups: this.groups,
      released: this.release,
      refused: [],
      ...changes
    }
  }

  /** Ask, and lose the answer. */
  readonly syncLost = (changes: Partial<Sync> = {}) => this.coordinator.sync(this.request(changes))

  readonly sync = (changes: Partial<Sync> = {}) => {
    const member = this
    return Effect.gen(function* () {
      const asked = yield* Clock.currentTimeMillis
      const statement = yield* member.syncLost(changes)
      member.leaseEnd = asked + member.timing.lease
      member.obey(statement)
      return statement
    })
  }

  obey(statement: Statement): void {
    this.known = statement.number
    this.next = statement.next
    this.release = []
    if (statement.mine === undefined) return
    this.running.clear()
    for (const owned of statement.mine) {
      if (owned.giveUp) this.release.push(owned)
      else this.running.set(keyOf(owned), owned)
    }
  }

  readonly leave = Effect.suspend(() => {
    this.running.clear()
    this.release = []
    return this.coordinator.leave(this.name, this.incarnation)
  })

  get keys(): ReadonlyArray<string> {
    return [...this.running.keys()].sort()
  }

  grant(key: string): Owned {
    const owned = this.running.get(key)
    if (owned === undefined) throw new Error(`${this.name} does not run ${key}, but ${this.keys.join(" ")}`)
    return owned
  }
}
