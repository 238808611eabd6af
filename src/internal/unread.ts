/** Which logs lose what nobody has read yet, so that a read must tell how much was trimmed. */
import type { Position } from "../Broker.ts"
import type { Retention } from "../Retention.ts"

/** Whoever reads. */
export const trimsUnread = ({ _tag }: Retention): boolean => _tag === "MaxLength" || _tag === "MaxAge"

/** For this reader: commits trim what they have done, also if somebody without a group has not read it. */
export const mayLose = ({ topic: { retention }, ungrouped }: Position): boolean =>
  trimsUnread(retention) || (ungrouped === true && retention._tag === "Consumed")
