/**
 * What the engines share about partitions that are put aside: how they are stored, within bounds, and how long the others
 * wait before they take over what balance demands.
 */
import type { Quarantine } from "../Coordinator.ts"

/** Many partitions that fail together are one change of the targets. */
export const quarantineSettleMillis = 50

/** Characters of an error that are kept: enough for a message and the head of its stack. */
const errorLimit = 2_000

/** As it is stored: JSON, with an error text that is cut. */
export const encode = (member: string, { error, positions, reason }: Quarantine): string =>
  JSON.stringify({
    member,
    reason,
    error: error.length > errorLimit ? `${error.slice(0, errorLimit - 1)}…` : error,
    positions: positions.map(({ first, last, topic }) => ({ topic, first, last }))
  })

export const decode = (text: string): Quarantine & { readonly member: string } => JSON.parse(text)
