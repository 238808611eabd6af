/** What jobs a worker has in hand: for a person who asks, in lines, and for what a worker says about itself. */
import type { InHand } from "./inHand.ts"

/** A job in hand, and for how many milliseconds. */
export interface Doing {
  readonly queue: string
  readonly id: string
  readonly name: string
  readonly millis: number
}

export const doing = (queue: string, hands: Iterable<InHand>, now: number): ReadonlyArray<Doing> =>
  Array.from(hands, ({ began, job }) => ({ queue, id: job.id, name: job.name, millis: now - began }))

export const line = ({ id, millis, name, queue }: Doing): string =>
  `${name}: job ${id} of queue ${queue}, for ${millis} ms`
