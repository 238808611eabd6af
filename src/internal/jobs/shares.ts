/** How many of the next claims are for each priority: 10 high to 3 medium to 1 low, exactly, over any run of claims. */

// Spread, so that also those who claim one at a time meet a low one in fourteen.
const pattern = [0, 1, 0, 0, 0, 1, 0, 0, 2, 0, 0, 1, 0, 0] as const

export class Shares {
  private turn = 0
  /** For the next `count` claims. */
  next(count: number): readonly [high: number, medium: number, low: number] {
    const rounds = Math.floor(count / pattern.length)
    const shares: [number, number, number] = [10 * rounds, 3 * rounds, rounds]
    for (let i = 0; i < count % pattern.length; i++) shares[pattern[(this.turn + i) % pattern.length]!]++
    return shares
  }
  /** So many were claimed. */
  claimed(count: number): void {
    this.turn = (this.turn + count) % pattern.length
  }
}
