/** What happened in a round and when, in milliseconds since its start: what is printed of a round that failed. */
export class Timeline {
  private readonly began = performance.now()
  readonly lines: Array<string> = []
  /** What went wrong outside the engine: a process that ended by itself, or did not end when told to. */
  readonly problems: Array<string> = []
  private readonly counts = new Map<string, number>()

  note(text: string): void {
    this.lines.push(`${String(Math.round(this.millis)).padStart(6)} ${text}`)
  }

  problem(text: string): void {
    this.note(`PROBLEM: ${text}`)
    this.problems.push(text)
  }

  count(what: string): void {
    this.counts.set(what, this.counted(what) + 1)
  }

  counted(what: string): number {
    return this.counts.get(what) ?? 0
  }

  get millis(): number {
    return performance.now() - this.began
  }
}
