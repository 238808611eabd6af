/**
 * Which rows of a partition stay in memory: as many rows and bytes as its bounds allow, those not used lately go first.
 * A row that was used since the hand last passed it gets a second chance, so a hit costs one flag and no reordering.
 *
 * Gotcha: what the engine does not have yet cannot be let go; then there are more rows than allowed, for a while.
 */
import { missing, type Row } from "./row.ts"

export interface CacheBounds {
  readonly rows: number
  readonly bytes: number
}

export const standardBounds: CacheBounds = { rows: 10_000, bytes: 16 * 1024 * 1024 }

/** Rows looked at for each that comes in. */
const looks = 64

export class Cache {
  private readonly ring: Array<Row> = []
  private hand = 0
  private bytes = 0
  private readonly bounds: CacheBounds
  private readonly onLeave: (row: Row) => void
  constructor(bounds: CacheBounds, onLeave: (row: Row) => void) {
    this.bounds = bounds
    this.onLeave = onLeave
  }

  get size(): number {
    return this.ring.length
  }

  add(row: Row): void {
    this.ring.push(row)
    this.bytes += row.bytes
    for (let look = 0; look < looks && this.isOver; look++) {
      if (this.hand >= this.ring.length) this.hand = 0
      this.pass(this.ring[this.hand]!, row)
    }
  }

  private get isOver(): boolean {
    return this.ring.length > this.bounds.rows || this.bytes > this.bounds.bytes
  }

  private pass(row: Row, newest: Row): void {
    if (row === newest || row.dirty || row.inFlight || row.value !== row.settled) this.hand++
    else if (row.used) {
      row.used = false
      this.hand++
    } else {
      this.bytes -= row.bytes
      const last = this.ring.pop()!
      if (last !== row) this.ring[this.hand] = last
      this.onLeave(row)
    }
  }

  /** It is stored with so many bytes now. */
  resized(row: Row, bytes: number): void {
    this.bytes += bytes - row.bytes
    row.bytes = bytes
  }
}

/** A row that was not there yet. */
export const rowOf = (from: Pick<Row, "table" | "key" | "topicKey">, value: unknown, bytes: number): Row => ({
  ...from,
  value,
  settled: value,
  dirty: false,
  inFlight: false,
  used: true,
  bytes: from.key.length + (value === missing ? 0 : bytes)
})
