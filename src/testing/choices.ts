/** Random choices that a seed decides, so that a run can be run again. (Mulberry32; T. Ettinger, public domain.) */
import type { Random } from "effect"

export class Choices {
  private state: number
  constructor(seed: number) {
    this.state = seed | 0
  }

  /** From 0 to below 1. */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) | 0
    let mixed = Math.imul(this.state ^ (this.state >>> 15), this.state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }

  /** A whole number from 0 to below `limit`. */
  below(limit: number): number {
    return Math.floor(this.next() * limit)
  }

  /** A whole number from `least` to `most`. */
  between(least: number, most: number): number {
    return least + this.below(most - least + 1)
  }

  chance(probability: number): boolean {
    return this.next() < probability
  }

  pick<A>(from: ReadonlyArray<A>): A {
    return from[this.below(from.length)]!
  }

  /** Choices of their own for somebody else, decided by the same seed. */
  fork(): Choices {
    return new Choices(Math.floor(this.next() * 2 ** 32))
  }

  /** Effect's random numbers, from these. */
  readonly random = (): (typeof Random.Random)["Service"] => ({
    nextDoubleUnsafe: () => this.next(),
    nextIntUnsafe: () => this.between(-(2 ** 31), 2 ** 31 - 1)
  })
}
