/**
 * The parts of the Redis engine one by one, for programs that replace one of them: `Redis.layer` is the connection and
 * the key layout that the others share. `Engine.layerRedis` is their sum.
 */
export { type Rule, rule, rulesOf } from "./redis/acl.ts"
export { layer as layerBroker } from "./redis/broker.ts"
export { layer, type Options, Redis, type RedisClient } from "./redis/client.ts"
export { layer as layerCoordinator } from "./redis/coordinator.ts"
export { examine } from "./redis/examine.ts"
export { layer as layerJobStore } from "./redis/jobStore.ts"
export { layer as layerTableStore } from "./redis/tableStore.ts"
