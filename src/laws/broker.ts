/**
 * The laws of the broker: what every engine keeps, as one suite. Names are unique in each law, so they may share an engine
 * with each other and with anything else; no law knows what ids look like beyond their order.
 */
import type { Broker } from "../Broker.ts"
import type { TableStore } from "../TableStore.ts"
import { appendLaws } from "./broker/append.ts"
import { commitLaws } from "./broker/commit.ts"
import { listingLaws } from "./broker/listing.ts"
import { lossLaws } from "./broker/losses.ts"
import { modelLaws } from "./broker/model.ts"
import { outboxLaws } from "./broker/outbox.ts"
import { parkedEventLaws } from "./broker/parkedEvents.ts"
import { parkingLaws } from "./broker/parking.ts"
import { probationLaws } from "./broker/probation.ts"
import { readLaws } from "./broker/read.ts"
import { replyLaws } from "./broker/replies.ts"
import { retentionLaws } from "./broker/retention.ts"
import { startLaws } from "./broker/start.ts"
import { windowLaws } from "./broker/windows.ts"
import { suite } from "./suite.ts"

export const brokerLaws = suite<Broker | TableStore>("broker", (laws) => {
  appendLaws(laws)
  readLaws(laws)
  commitLaws(laws)
  outboxLaws(laws)
  replyLaws(laws)
  parkingLaws(laws)
  parkedEventLaws(laws)
  probationLaws(laws)
  retentionLaws(laws)
  lossLaws(laws)
  startLaws(laws)
  listingLaws(laws)
  windowLaws(laws)
  modelLaws(laws)
})
