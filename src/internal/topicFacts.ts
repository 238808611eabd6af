/**
 * What the engines keep of a topic beside its partition count: nothing that must agree, only what its last program said.
 * It is for those who have no definition of the topic: tools, and the pages that people look at.
 */
import type { Layout, StoredTopic } from "../Broker.ts"

type Facts = Pick<StoredTopic, "retention" | "flat" | "letters" | "redacted">

/** As it is stored: JSON. */
export const encode = ({ flat = false, letters = false, redacted = [], retention }: Layout): string =>
  JSON.stringify({
    retention,
    ...(flat ? { flat } : {}),
    ...(letters ? { letters } : {}),
    ...(redacted.length > 0 ? { redacted } : {})
  })

export const decode = (text: string | null | undefined): Facts => {
  const { flat = false, letters = false, redacted = [], retention } = JSON.parse(text ?? "{}") as Partial<Facts>
  return { retention, flat, letters, redacted }
}
