/**
 * The engines, as layers: everything that topics and workers need, from one URL. The program does not change with it.
 *
 * | URL | engine |
 * | --- | --- |
 * | `memory:` | in this process, gone with it; obeys the test clock |
 * | `file:./orders.db`, `file:///var/lib/orders.db` | one SQLite file, for one process or several |
 * | `redis://`, `rediss://` (TLS) | one Redis |
 * | `redis-cluster://`, `redis+cluster://`, `redis+sentinel://` | several; hosts separated by commas |
 */
import { Config, Effect, Layer, Option, type Redacted, Result } from "effect"
import type { Broker } from "./Broker.ts"
import type { Coordinator } from "./Coordinator.ts"
import type { EngineError, Misconfigured } from "./Errors.ts"
import * as EmbeddedBroker from "./embedded/broker.ts"
import * as Embedded from "./embedded/client.ts"
import * as EmbeddedCoordinator from "./embedded/coordinator.ts"
import * as EmbeddedExamine from "./embedded/examine.ts"
import * as EmbeddedJobStore from "./embedded/jobStore.ts"
import * as EmbeddedTableStore from "./embedded/tableStore.ts"
import { type Finding, finding } from "./internal/finding.ts"
import { invalid, isName } from "./internal/names.ts"
import { DefaultNamespace, IsNameless } from "./internal/namespace.ts"
import * as Scheduler from "./internal/schedule/scheduler.ts"
import * as Url from "./internal/url.ts"
import type { JobStore } from "./JobStore.ts"
import * as Redis from "./Redis.ts"
import * as Serializer from "./Serializer.ts"
import * as Settings from "./Settings.ts"
import type { TableStore } from "./TableStore.ts"

/** All that a worker needs: the ports of one engine, the serializer and the scheduler. */
export type Services = Broker | Coordinator | TableStore | JobStore | Serializer.Serializer | Scheduler.Scheduler

/** Why an engine cannot be had. */
export type Failure = EngineError | Misconfigured

export interface EmbeddedOptions {
  /** Made if it is missing; its directory must exist. */
  readonly file: string
  /** The application's name: two of them in one file never meet. Default: that of the app (`App.engine`), else "millrace". */
  readonly namespace?: string | undefined
  /** Every write is on the disk before it is answered: survives a power cut, and costs a few milliseconds. */
  readonly fsync?: boolean | undefined
}

export interface Options {
  readonly url: string | Redacted.Redacted<string>
  /** As in `EmbeddedOptions`. */
  readonly namespace?: string | undefined
  /** Redis only: how many hash slots partitions are spread over. Default 1; on a cluster typically 16. */
  readonly shards?: number | undefined
  /** `file:` only, see `EmbeddedOptions`. */
  readonly fsync?: boolean | undefined
}

/** What needs no engine. */
const beside = Layer.merge(Serializer.layerJson, Scheduler.layer)

const embedded = <E>(client: Layer.Layer<Embedded.Sqlite, E>): Layer.Layer<Services, E | EngineError> =>
  Layer.mergeAll(
    EmbeddedBroker.layer,
    EmbeddedCoordinator.layer,
    EmbeddedTableStore.layer,
    EmbeddedJobStore.layer,
    beside
  ).pipe(Layer.provide(client))

/** In this process; a new one with each build. A database in memory cannot be missing, busy or damaged. */
export const layerMemory: Layer.Layer<Services> = Layer.orDie(embedded(Embedded.layerMemory))

/** Under the name that it is told, else under that of the app around it. */
const named = <O extends { readonly namespace?: string | undefined }, E>(
  options: O,
  f: (options: O) => Layer.Layer<Services, E>
): Layer.Layer<Services, E> =>
  Layer.unwrap(
    Effect.map(DefaultNamespace, (own) => {
      const namespace = options.namespace ?? own
      const isNameless = Layer.succeed(IsNameless, namespace === undefined)
      return Layer.merge(f({ ...options, namespace }), isNameless)
    })
  )

/** One SQLite file, which several processes may share. */
export const layerEmbedded = (options: EmbeddedOptions): Layer.Layer<Services, Failure> =>
  named(options, (options): Layer.Layer<Services, Failure> => {
    const { namespace } = options
    return namespace === undefined || isName(namespace)
      ? embedded(Embedded.layerFile(options))
      : failed(
          invalid(
            `namespace ${JSON.stringify(namespace)}: use 1 to 128 letters, digits, ".", "_" or "-", ` +
              "beginning with a letter or digit"
          )
        )
  })

/** Redis, by URL or by an ioredis client of your own, which is duplicated and never closed. */
export const layerRedis = (options: Redis.Options): Layer.Layer<Services, Failure> =>
  named(options, (options) =>
    Layer.mergeAll(Redis.layerBroker, Redis.layerCoordinator, Redis.layerTableStore, Redis.layerJobStore, beside).pipe(
      Layer.provide(Redis.layer(options))
    )
  )

/** The engine that the URL names. */
export const layer = (options: Options): Layer.Layer<Services, Failure> => select("the engine's URL", options)

/** @internal What `MILLRACE_SHARDS` says. */
export const shardsConfig: Effect.Effect<number | undefined, Config.ConfigError | Misconfigured> = Effect.gen(
  function* () {
    const shards = yield* Config.option(Config.String("MILLRACE_SHARDS"))
    const count = Option.getOrUndefined(Option.map(shards, Number))
    if (count !== undefined && !(Number.isSafeInteger(count) && count >= 1 && count <= 16_384)) {
      const given = JSON.stringify(Option.getOrUndefined(shards))
      return yield* invalid(`MILLRACE_SHARDS is ${given}: give a whole number from 1 to 16384`)
    }
    return count
  }
)

/**
 * The engine that `MILLRACE_URL` names, with `MILLRACE_NAMESPACE` (else the name of the app, see `App.engine`) and
 * `MILLRACE_SHARDS` if they are set; and the settings of the other variables (`Settings.layerConfig`, `Settings.layerLogger`).
 */
export const layerConfig: Layer.Layer<Services, Failure | Config.ConfigError> = Layer.unwrap(
  Effect.gen(function* () {
    const url = yield* Config.option(Config.Redacted("MILLRACE_URL"))
    const namespace = yield* Config.option(Config.String("MILLRACE_NAMESPACE"))
    return select("MILLRACE_URL", {
      url: Option.getOrUndefined(url),
      namespace: Option.getOrUndefined(namespace),
      shards: yield* shardsConfig
    })
  })
).pipe(Layer.merge(Layer.provideMerge(Settings.layerLogger, Settings.layerConfig)))

const select = (
  name: string,
  options: Omit<Options, "url"> & { readonly url: Options["url"] | undefined }
): Layer.Layer<Services, Failure> => {
  const { fsync, namespace, shards } = options
  const parsed = Url.parse(name, options.url)
  if (Result.isFailure(parsed)) return failed(parsed.failure)
  const target = parsed.success
  if (fsync === true && target._tag !== "File") {
    return failed(
      invalid(
        `fsync is for file: URLs, and ${name} names another engine: leave it out` +
          (target._tag === "Redis" ? `, and publish and commit with the durability "fsync"` : "")
      )
    )
  }
  switch (target._tag) {
    case "Memory":
      return layerMemory
    case "File":
      return layerEmbedded({ file: target.file, namespace, fsync })
    case "Redis":
      return layerRedis({ url: target.url, namespace, shards })
  }
}

export type { Finding }

/** Look at the engine that the URL names, before trusting it: one finding for each check. */
export const examine = (options: Options): Effect.Effect<ReadonlyArray<Finding>, Failure> => {
  const { namespace, shards } = options
  const parsed = Url.parse("the engine's URL", options.url)
  if (Result.isFailure(parsed)) return Effect.fail(parsed.failure)
  const target = parsed.success
  switch (target._tag) {
    case "Memory":
      return Effect.succeed([finding("persistence", "warning", "memory: everything is gone with the process")])
    case "File":
      return EmbeddedExamine.examine({ file: target.file, namespace })
    case "Redis":
      return Effect.scoped(Redis.examine({ url: target.url, namespace, shards }))
  }
}

const failed = (error: Misconfigured): Layer.Layer<Services, Misconfigured> => Layer.unwrap(Effect.fail(error))
