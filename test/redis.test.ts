/** Every law on a real Redis: in one shard, and in three. */
import { Layer } from "effect"
import * as Laws from "../src/laws/Laws.ts"
import * as RedisBroker from "../src/redis/broker.ts"
import * as RedisTables from "../src/redis/tableStore.ts"
import { layerRedis } from "./support/redis.ts"

const engine = (shards: number) =>
  Layer.mergeAll(RedisBroker.layer, RedisTables.layer).pipe(Layer.provide(layerRedis({ shards })))

Laws.broker("Redis", engine(1))
Laws.broker("Redis, 3 shards", engine(3))
Laws.tableStore("Redis", engine(1))
Laws.tableStore("Redis, 3 shards", engine(3))
