/**
 * Where a reply goes, as the headers of a request say it: to the inbox of a process that asked, or to a topic. Requests
 * come from anywhere, so what a header says is checked before anything is done with it.
 */
import * as Retention from "../../Retention.ts"
import { isName } from "../names.ts"

/** Names of the headers. */
export const agentHeaders = {
  /** `inbox:<asker>`, or `topic:<JSON>`. */
  replyTo: "millrace-reply-to",
  /** The asker's number of the request, or what `Agent.send` was given; a reply in a topic carries it too. */
  correlationId: "millrace-correlation-id"
} as const

export type Address =
  | { readonly _tag: "Inbox"; readonly asker: string; readonly id: string }
  | ({ readonly _tag: "Topic"; readonly id: string | undefined } & Target)

export interface Target {
  readonly topic: string
  readonly partitions: number
  readonly retention: Retention.Retention
  /** Under which the reply is stored; without it, that of the request. */
  readonly key?: string | undefined
}

type Headers = Readonly<Record<string, string>>

export const inboxHeaders = (asker: string, id: string): Headers => ({
  [agentHeaders.replyTo]: `inbox:${asker}`,
  [agentHeaders.correlationId]: id
})

export const topicHeaders = ({ key, partitions, retention, topic }: Target, id: string | undefined): Headers => ({
  [agentHeaders.replyTo]: `topic:${JSON.stringify({ topic, partitions, retention, key })}`,
  ...(id === undefined ? {} : { [agentHeaders.correlationId]: id })
})

/** `"none"`: it is a cast. Undefined: what stands there is no address. */
export const addressOf = (headers: Headers): Address | "none" | undefined => {
  const text = headers[agentHeaders.replyTo]
  if (text === undefined) return "none"
  const id = headers[agentHeaders.correlationId]
  if (text.startsWith("inbox:")) {
    const asker = text.slice(6)
    return id !== undefined && /^[A-Za-z0-9-]{1,64}$/.test(asker) ? { _tag: "Inbox", asker, id } : undefined
  }
  const target = text.startsWith("topic:") ? targetOf(text.slice(6)) : undefined
  return target === undefined ? undefined : { _tag: "Topic", id, ...target }
}

const targetOf = (text: string): Target | undefined => {
  try {
    const { key, partitions, retention, topic }: Partial<Target> = JSON.parse(text)
    if (topic === undefined || retention === undefined || !isName(topic)) return undefined
    if (!Number.isInteger(partitions) || partitions! < 1 || partitions! > 65_536) return undefined
    return { topic, partitions: partitions!, retention: checked(retention), key: key === undefined ? key : String(key) }
  } catch {
    return undefined
  }
}

/** The same, or it throws. */
const checked = (retention: Retention.Retention): Retention.Retention => {
  switch (retention._tag) {
    case "Consumed":
      return Retention.consumed(retention)
    case "MaxLength":
      return Retention.maxLength(retention.events)
    case "MaxAge":
      return Retention.maxAge(retention.millis)
    default:
      return Retention.forever
  }
}
