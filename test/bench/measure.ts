/**
 * What one round costs: time, CPU of this process and CPU of the server. Only the main thread of Redis is counted, so
 * that keys which are freed in the background after a round do not burden the next one.
 */
import type { Redis } from "ioredis"

export interface Measure {
  readonly events: number
  readonly seconds: number
  /** Microseconds of CPU per event, of this process with its garbage collector, and of Redis. */
  readonly node: number
  readonly redis: number | undefined
  /** The highest that this process ever had, in MiB. */
  readonly peak: number
  /** Milliseconds from publish to handler. */
  readonly p50?: number
  readonly p99?: number
}

const redisMicros = async (redis: Redis | undefined): Promise<number> => {
  if (redis === undefined) return 0
  const info = await redis.info("cpu")
  const value = (name: string): number => Number(new RegExp(`${name}:([0-9.]+)`).exec(info)?.[1] ?? Number.NaN)
  return (value("used_cpu_sys_main_thread") + value("used_cpu_user_main_thread")) * 1e6
}

export const peakMemory = (): number => process.resourceUsage().maxRSS / 1024

/** A variant calls `start` where its work begins and `stop` when the last event is acknowledged or stored. */
export class Meter {
  private readonly redis: Redis | undefined
  private redisBefore = 0
  private cpuBefore = process.cpuUsage()
  private startedAt: number | undefined
  private seconds = 0
  private cpu = 0
  constructor(redis: Redis | undefined) {
    this.redis = redis
  }
  async ready(): Promise<void> {
    globalThis.gc?.()
    this.redisBefore = await redisMicros(this.redis)
  }
  /** The first call counts. */
  start(): void {
    if (this.startedAt !== undefined) return
    this.cpuBefore = process.cpuUsage()
    this.startedAt = performance.now()
  }
  stop(): void {
    this.seconds = (performance.now() - this.startedAt!) / 1_000
    const { system, user } = process.cpuUsage(this.cpuBefore)
    this.cpu = system + user
  }
  async result(events: number, more: { readonly p50?: number; readonly p99?: number } = {}): Promise<Measure> {
    const redis = this.redis === undefined ? undefined : ((await redisMicros(this.redis)) - this.redisBefore) / events
    return { events, seconds: this.seconds, node: this.cpu / events, redis, peak: peakMemory(), ...more }
  }
}

export const quantile = (values: ReadonlyArray<number>, q: number): number => {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? Number.NaN
}
