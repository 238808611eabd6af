/**
 * What a row of the bench is: a variant, run once per round in a process of its own, and the world that it finds there.
 * Sections put beside each other what is compared.
 */
import { join } from "node:path"
import { type Effect, type Layer, ManagedRuntime } from "effect"
import { Redis } from "ioredis"
import { Redis as Redis6 } from "ioredis6"
import { Engine } from "../../src/index.ts"
import { namespace, streamsOf } from "./events.ts"
import { type Measure, Meter } from "./measure.ts"

export interface Sizes {
  readonly events: number
  readonly queued: number
  readonly rate: number
  readonly seconds: number
}

export interface Settings extends Sizes {
  readonly url: string
  readonly directory: string
  readonly ioredis: 5 | 6
}

/** What a variant has in its process. */
export interface World extends Settings {
  readonly connect: () => Redis
  readonly ours: (work: (meter: Meter) => Effect.Effect<Measure, unknown, Engine.Services>) => Promise<Measure>
}

export interface Variant {
  readonly id: string
  readonly label: string
  /** The row it is compared with. */
  readonly against?: string
  /** Runs once per round; round 0 is the warm-up. */
  readonly run: (world: World, round: number) => Promise<Measure>
  readonly engine?: "memory" | "file"
}

export interface Section {
  readonly id: string
  readonly title: string
  /** Run once, before the rounds. */
  readonly setup: ReadonlyArray<Variant>
  readonly variants: ReadonlyArray<Variant>
  /** It is slow, or about memory: one round, no warm-up. */
  readonly once?: boolean
  /** In one process, round by round: what is compared differs by less than two processes do. */
  readonly together?: boolean
}

/** The log of a round is dropped with the next one. */
export const fresh = (id: string, round: number): string => `${id}-${round}`
export const drop = async (redis: Redis, name: string): Promise<void> => void (await redis.unlink(...streamsOf(name)))

export const hand = (
  id: string,
  label: string,
  run: (redis: Redis, meter: Meter, world: World, round: number) => Promise<Measure>,
  against?: string
): Variant => {
  let redis: Redis | undefined
  return {
    id,
    label,
    ...(against === undefined ? {} : { against }),
    run: (world, round) => {
      redis ??= world.connect()
      return run(redis, new Meter(redis), world, round)
    }
  }
}

export const ours = (
  id: string,
  label: string,
  against: string | undefined,
  run: (meter: Meter, world: World, round: number) => Effect.Effect<Measure, unknown, Engine.Services>,
  engine?: "memory" | "file"
): Variant => ({
  id,
  label,
  ...(against === undefined ? {} : { against }),
  ...(engine === undefined ? {} : { engine }),
  run: (world, round) => world.ours((meter) => run(meter, world, round))
})

export const few = (events: number): number => Math.ceil(events / 10)

export const makeWorld = (settings: Settings, variant: Variant): World => {
  const { port, hostname } = new URL(settings.url)
  // The two versions agree in all that is used here.
  const Client = settings.ioredis === 6 ? (Redis6 as unknown as typeof Redis) : Redis
  const connect = (): Redis => new Client(Number(port), hostname)
  const layer: Layer.Layer<Engine.Services, Engine.Failure> =
    variant.engine === "memory"
      ? Engine.layerMemory
      : variant.engine === "file"
        ? Engine.layerEmbedded({ file: join(settings.directory, `${variant.id.replace("slow", "queue")}.db`) })
        : settings.ioredis === 6
          ? Engine.layerRedis({ client: connect(), namespace })
          : Engine.layerRedis({ url: settings.url, namespace })
  let runtime: ManagedRuntime.ManagedRuntime<Engine.Services, Engine.Failure> | undefined
  let redis: Redis | undefined
  return {
    ...settings,
    connect,
    ours: (work) => {
      runtime ??= ManagedRuntime.make(layer)
      if (variant.engine === undefined) redis ??= connect()
      return runtime.runPromise(work(new Meter(redis)))
    }
  }
}
