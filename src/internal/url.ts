/**
 * Which engine a URL names. Gotcha: a URL may hold a password, also a misspelt one, so no message ever shows more of it
 * than its scheme.
 */
import { fileURLToPath } from "node:url"
import { Redacted, Result } from "effect"
import type { Misconfigured } from "../Errors.ts"
import { invalid } from "./names.ts"

export type Target =
  | { readonly _tag: "Memory" }
  | { readonly _tag: "File"; readonly file: string }
  /** What follows the scheme is for the Redis client to judge. */
  | { readonly _tag: "Redis"; readonly url: Redacted.Redacted<string> }

/** The rules of its URLs are in `redis/url.ts`. */
const redisScheme = /^rediss?(?:[-+](?:cluster|sentinel))?$/

const schemes =
  "redis://host:6379, rediss:// (TLS), redis-cluster:// or redis+cluster://, redis+sentinel://, " +
  "file:./millrace.db or memory:"

/** `name` is what the URL is called where it was given; the failure begins with it. */
export const parse = (
  name: string,
  url: string | Redacted.Redacted<string> | undefined
): Result.Result<Target, Misconfigured> => {
  const text = (url === undefined ? "" : Redacted.isRedacted(url) ? Redacted.value(url) : url).trim()
  const wrong = (what: string) => Result.fail(invalid(`${name} ${what}: give ${schemes}`))
  if (text === "") return wrong(url === undefined ? "is not set" : "is empty")
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(text)?.[1]?.toLowerCase()
  if (scheme === undefined) return wrong("begins with no scheme")
  const rest = text.slice(scheme.length + 1)
  if (redisScheme.test(scheme)) return Result.succeed({ _tag: "Redis", url: Redacted.make(text) })
  if (scheme === "memory") {
    return rest === "" || rest === "//" ? Result.succeed({ _tag: "Memory" }) : wrong("says more than memory:")
  }
  if (scheme === "file") return Result.map(filePath(name, text, rest), (file) => ({ _tag: "File", file }))
  // `secret:...` has a "scheme" too; only with slashes it is surely meant as one.
  return wrong(rest.startsWith("//") ? `has the unknown scheme ${scheme}://` : "begins with no scheme that is known")
}

/** `file:./orders.db`, `file:orders.db`, `file:/abs/orders.db`, `file:///abs/orders.db`. */
const filePath = (name: string, text: string, rest: string): Result.Result<string, Misconfigured> => {
  const wrong = (what: string) =>
    Result.fail(
      invalid(
        `${name} ${what}: give file:./orders.db for a path from here, file:///var/lib/orders.db for an absolute one`
      )
    )
  if (/[?#]/.test(rest)) return wrong("has a ? or # (in a file's name they are written %3F and %23)")
  if (rest === "" || rest.endsWith("/")) return wrong("names no file")
  try {
    return Result.succeed(rest.startsWith("/") ? fileURLToPath(text) : decodeURIComponent(rest))
  } catch {
    return wrong("is no valid file URL")
  }
}
