import { defineConfig } from "vitest/config"

export default defineConfig({ test: { include: ["*.laws.ts"], root: import.meta.dirname } })
