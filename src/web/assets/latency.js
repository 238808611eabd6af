/**
 * How long handlers and commits take, from the histograms of `/metrics`: differences of two looks, read only while somebody
 * watches. They are those of the worker that serves this page; other workers have their own.
 */
import { request } from "./api.js"

const everyMillis = 5_000
const most = 180
const watched = ["millrace_handler_seconds", "millrace_commit_seconds"]

/** By metric and processor: counts of buckets, by upper bound. */
const parse = (text) => {
  const found = new Map()
  for (const line of text.split("\n")) {
    const match = /^(\w+)_bucket\{(.*)\} (\S+)$/.exec(line)
    if (match === null || !watched.includes(match[1])) continue
    const bound = /(?:^|,)le="([^"]+)"/.exec(match[2])?.[1]
    const processor = /(?:^|,)processor="((?:[^"\\]|\\.)*)"/.exec(match[2])?.[1] ?? ""
    const key = `${match[1]} ${processor}`
    const buckets = found.get(key) ?? new Map()
    const upTo = bound === "+Inf" ? Number.POSITIVE_INFINITY : Number(bound)
    buckets.set(upTo, (buckets.get(upTo) ?? 0) + Number(match[3]))
    found.set(key, buckets)
  }
  return found
}

/** By linear interpolation within its bucket; null where nothing was measured. */
const quantile = (now, then, q) => {
  const bounds = Array.from(now.keys()).toSorted((a, b) => a - b)
  const counts = bounds.map((bound) => now.get(bound) - (then?.get(bound) ?? 0))
  const wanted = (counts.at(-1) ?? 0) * q
  if (wanted <= 0) return null
  const at = counts.findIndex((count) => count >= wanted)
  const lower = at === 0 ? 0 : bounds[at - 1]
  if (bounds[at] === Number.POSITIVE_INFINITY) return lower
  const below = at === 0 ? 0 : counts[at - 1]
  return lower + (bounds[at] - lower) * ((wanted - below) / (counts[at] - below))
}

/** Calls `heard({ times, p50, p99, commit })` until the function that it gives is called. */
export const watchLatency = (processor, heard) => {
  const series = { times: [], p50: [], p99: [], commit: [] }
  const over = new AbortController()
  let before
  let timer
  const look = async () => {
    try {
      const now = parse(await (await request("/metrics", { signal: over.signal })).text())
      const of = (metric, q) => {
        const key = `${metric} ${processor}`
        return now.has(key) ? quantile(now.get(key), before.get(key), q) : null
      }
      if (before !== undefined) {
        series.times.push(Date.now() / 1_000)
        series.p50.push(of(watched[0], 0.5))
        series.p99.push(of(watched[0], 0.99))
        series.commit.push(of(watched[1], 0.99))
        if (series.times.length > most) for (const list of Object.values(series)) list.shift()
        heard(series)
      }
      before = now
    } catch {
      // The connection's state says so already; the next look may find it back.
    }
    if (!over.signal.aborted) timer = setTimeout(look, everyMillis)
  }
  look()
  return () => {
    clearTimeout(timer)
    over.abort()
  }
}
