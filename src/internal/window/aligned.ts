/**
 * Windows whose spans are fixed (tumbling, hopping): a row for each window and key, under the window's start and the key.
 * What is due of a row is the end of its window; once that is closed and kept, the end of its retention.
 */

export interface Aligned {
  readonly size: number
  readonly step: number
}

/** The starts of the windows that hold this time, from the earliest on; only those that end after `closed`. */
export const startsOf = ({ size, step }: Aligned, time: number, closed = Number.NEGATIVE_INFINITY): Array<number> => {
  const starts: Array<number> = []
  for (let start = latestStart({ size, step }, time); start > time - size && start + size > closed; start -= step) {
    starts.push(start)
  }
  return starts.reverse()
}

/** Of the window that holds this time and begins last. */
export const latestStart = ({ step }: Aligned, time: number): number => Math.floor(time / step) * step

/** How many windows hold this time. */
export const countOf = ({ size, step }: Aligned, time: number): number =>
  Math.ceil((size - (time - latestStart({ size, step }, time))) / step)

export const rowOf = (start: number, key: string): string => `${start}|${key}`

export const startOf = (row: string): number => Number(row.slice(0, row.indexOf("|")))

export const keyOf = (row: string): string => row.slice(row.indexOf("|") + 1)
