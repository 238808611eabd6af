/** What a worker is called in its groups, and in its log lines. */
import { hostname } from "node:os"

/** As it was named, or after its host and this start of it. */
export const memberOf = (name: string | undefined, incarnation: string): string => {
  if (name !== undefined) return name
  const host = hostname().replace(/[^A-Za-z0-9._-]/g, "-")
  return `${host.slice(0, 60) || "worker"}-${incarnation.slice(0, 8)}`
}
