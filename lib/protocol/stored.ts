import { z } from 'zod'
import { keyIdSchema } from './ids.js'
import { method } from './method.js'
import { pageEnd, pageRequest } from './page.js'

/** Responses and chats that gateways keep for callers who want to read them again, and how gateways ask each other for them. */

/** How long one gateway waits for another to say whether it has something. */
const ASK_MS = 2000
/** Longest id of something that is kept: a request id with what stands before it. */
const MAX_ID_CHARS = 100
/** Entries of an object's metadata. */
const MAX_TAGS = 16
/** What one answer holds of a view: in base64 it stays far below the bound of a message. */
export const MAX_PIECE_BYTES = 512 * 1024
/** Base64 has four characters for three bytes. */
const MAX_PIECE_CHARS = Math.ceil(MAX_PIECE_BYTES / 3) * 4
/** Longest object that is told while it is being made. */
export const MAX_LIVE_BYTES = 2 * 1024 * 1024
const MAX_LIVE_CHARS = Math.ceil(MAX_LIVE_BYTES / 3) * 4
const MAX_METADATA_CHARS = 64 * 1024

const sizeBytes = z.int().min(0)
const storedId = z.string().min(1).max(MAX_ID_CHARS)
/** A digest of a metadata entry: lists are narrowed by these, without the entries in memory. */
const tag = z.string().max(16)

/** What is read of it: the object itself, what was sent with it, or what a conversation goes on from. */
const view = z.enum(['object', 'items', 'history'])
export type StoredView = z.infer<typeof view>
/** What its file is made of. `metadata`, where it is apart because it can change, is the beginning of the object. */
const part = z.enum([...view.options, 'metadata'])
export type StoredPart = z.infer<typeof part>

const kind = z.enum(['response', 'chat'])

/** What a gateway knows of something that it keeps without reading it: whose and how old it is, and where its parts are. */
export const storedObjectSchema = z.object({
  version: z.literal(1),
  id: storedId,
  kind,
  keyId: keyIdSchema,
  user: z.string().max(128),
  /** Milliseconds since the epoch. */
  createdAt: z.int().min(0),
  model: z.string().max(200),
  tags: z.array(tag).max(MAX_TAGS),
  /** True while what it stands for is being made. */
  pending: z.literal(true).optional(),
  /** True where it was made in the background. */
  background: z.literal(true).optional(),
  /** In their order in the file, with the digest of each (SHA-256, in base64url). */
  parts: z
    .array(z.object({ name: part, sizeBytes, digest: z.string().max(64) }))
    .min(1)
    .max(4),
})
export type StoredObject = z.infer<typeof storedObjectSchema>

/** Whose it is: proven by the gateway that asks, and held by the one that is asked against what it keeps. */
const owner = { keyId: keyIdSchema, user: z.string().max(128) }
const whose = { id: storedId, ...owner }
const GATEWAYS = ['gateway'] as const

/** What gateways ask each other: a key's holder finds what is kept at whichever gateway. */
export const storedMethods = {
  /** How old it is; where a view is named, what is known of it and the beginning of the view. */
  'stored.find': method(
    GATEWAYS,
    'none',
    z.strictObject({ ...whose, view: view.optional() }),
    z.object({
      createdAt: z.int().optional(),
      found: storedObjectSchema.optional(),
      /** In base64. */
      data: z.string().max(MAX_PIECE_CHARS).optional(),
      /** The whole object as it is now, where it is being made: the file has an older one. In base64. */
      live: z.string().max(MAX_LIVE_CHARS).optional(),
    }),
    ASK_MS,
  ),
  /** A piece of a view, from an offset in bytes on. */
  'stored.read': method(
    GATEWAYS,
    'none',
    z.strictObject({ ...whose, view, offset: z.int().min(0) }),
    z.object({ data: z.string().max(MAX_PIECE_CHARS) }),
    ASK_MS,
  ),
  /** What one key has stored, in the order of time. */
  'stored.list': method(
    GATEWAYS,
    'none',
    z.strictObject({
      ...owner,
      ...pageRequest,
      kind,
      order: z.enum(['asc', 'desc']),
      model: z.string().max(200).optional(),
      tags: z.array(tag).max(MAX_TAGS).optional(),
    }),
    z.object({ items: z.array(z.object({ id: storedId, createdAt: z.int() })), ...pageEnd }),
    ASK_MS,
  ),
  'stored.delete': method(GATEWAYS, 'none', z.strictObject(whose), z.object({ deleted: z.boolean() }), ASK_MS),
  /** Replaces the metadata, given as JSON. */
  'stored.update': method(
    GATEWAYS,
    'none',
    z.strictObject({ ...whose, metadata: z.string().max(MAX_METADATA_CHARS), tags: z.array(tag).max(MAX_TAGS) }),
    z.object({ updated: z.boolean() }),
    ASK_MS,
  ),
  /** Ends what is being made in the background. */
  'stored.cancel': method(GATEWAYS, 'none', z.strictObject(whose), z.object({ cancelled: z.boolean() }), ASK_MS),
} as const
