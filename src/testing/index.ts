/** The testing kit: `import { TestProcessor } from "millrace/testing"`. */

/** Run one processor over given events, without a worker or an engine. */
export * as TestProcessor from "./TestProcessor.ts"
