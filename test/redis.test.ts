/** Every law on a real Redis: in one shard, and in three. */
import { Layer } from "effect"
import * as RedisBroker from "../src/redis/broker.ts"
import * as RedisTables from "../src/redis/tableStore.ts"
import { brokerLaws } from "./laws/broker.ts"
import { tableStoreLaws } from "./laws/tableStore.ts"
import { layerRedis } from "./support/redis.ts"

const engine = (shards: number) =>
  Layer.mergeAll(RedisBroker.layer, RedisTables.layer).pipe(Layer.provide(layerRedis({ shards })))

brokerLaws("Redis", engine(1))
brokerLaws("Redis, 3 shards", engine(3))
tableStoreLaws("Redis", engine(1))
tableStoreLaws("Redis, 3 shards", engine(3))
