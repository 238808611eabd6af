import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"
import { BaseSequencer, type TestSpecification } from "vitest/node"

const report = process.env["TEST_RESULTS"]

/** Begun last, each of these would go on alone when all others are done. */
const long = [
  "simulation.test.ts",
  "examples.test.ts",
  "chaos/crashLoop.test.ts",
  "dashboard.test.ts",
  "package.test.ts",
  "Window.oracle.test.ts"
]

class LongFirst extends BaseSequencer {
  override async sort(files: Array<TestSpecification>): Promise<Array<TestSpecification>> {
    const place = ({ moduleId }: TestSpecification): number => {
      const at = long.findIndex((file) => moduleId.endsWith(`/test/${file}`))
      return at === -1 ? long.length : at
    }
    return (await super.sort(files)).toSorted((a, b) => place(a) - place(b))
  }
}

const compiled = fileURLToPath(new URL("node_modules/.cache/compiled", import.meta.url))

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // One more than the cores of a small machine: much of the time is waiting, for leases to end and servers to come back.
    maxWorkers: 3,
    // Hundreds of processes are started, and most of a start is reading and compiling modules: it is done once.
    env: { NODE_COMPILE_CACHE: compiled },
    sequence: { sequencer: LongFirst },
    reporters: report === undefined ? ["default"] : ["default", ["json", { outputFile: report }]]
  }
})
