/**
 * Compression of whole entries, with what Node has: gzip, brotli, zstd. Small entries, and those that do not shrink, stay
 * as they are. Gotcha: the calls are synchronous; entries are small, and a round through the thread pool costs more.
 */
import {
  brotliCompressSync,
  brotliDecompressSync,
  constants,
  gunzipSync,
  gzipSync,
  zstdCompressSync,
  zstdDecompressSync
} from "node:zlib"
import { refused, TooLarge, type Transform } from "./transform.ts"

interface Algorithm {
  readonly compress: (bytes: Uint8Array) => Uint8Array
  readonly decompress: (bytes: Uint8Array, limits: { readonly maxOutputLength: number }) => Uint8Array
}

const algorithms: Readonly<Record<string, Algorithm>> = {
  gzip: { compress: (bytes) => gzipSync(bytes), decompress: (bytes, limits) => gunzipSync(bytes, limits) },
  // Node's default quality, 11, is meant for files that are compressed once: it takes milliseconds for an entry.
  brotli: {
    compress: (bytes) => brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } }),
    decompress: (bytes, limits) => brotliDecompressSync(bytes, limits)
  },
  zstd: {
    compress: (bytes) => zstdCompressSync(bytes),
    decompress: (bytes, limits) => zstdDecompressSync(bytes, limits)
  }
}

const undoWith =
  (name: string, algorithm: Algorithm): Transform["undo"] =>
  (bytes, _name, limit) => {
    try {
      // Zero is no length that zlib takes; whoever asked compares with the limit once more.
      return algorithm.decompress(bytes, { maxOutputLength: Math.max(limit, 1) })
    } catch (error) {
      if (!(error instanceof Error)) throw error
      if ("code" in error && error.code === "ERR_BUFFER_TOO_LARGE") throw new TooLarge(undefined, limit)
      throw new Error(`its ${name} data is damaged: ${error.message}`)
    }
  }

/** What every reader can undo, whatever its own serializer is. */
export const decompressions: ReadonlyMap<string, Transform["undo"]> = new Map(
  Object.entries(algorithms).map(([name, algorithm]) => [name, undoWith(name, algorithm)])
)

export const compression = (name: string, above: number): Transform => {
  const algorithm = Object.hasOwn(algorithms, name) ? algorithms[name] : undefined
  if (algorithm === undefined) {
    throw refused(`compressed: "with" is ${JSON.stringify(name)}: use one of ${Object.keys(algorithms).join(", ")}`)
  }
  if (!Number.isSafeInteger(above) || above < 0) {
    throw refused(`compressed: "above" is ${above}: give a whole number of bytes, 0 or more`)
  }
  return {
    name,
    apply: (bytes) => {
      if (bytes.length <= above) return undefined
      const smaller = algorithm.compress(bytes)
      return smaller.length < bytes.length ? smaller : undefined
    },
    undo: undoWith(name, algorithm)
  }
}
