import { z } from 'zod'
import { roleSchema } from './records.js'
import { storedText } from './text.js'

/** How a worker stands, as it tells its links every 500 ms and at once on change. */

export const modelStateSchema = z.enum(['available', 'loading', 'loaded', 'failed'])
export type ModelState = z.infer<typeof modelStateSchema>

/** One model as one processor has it. */
export const modelLoadSchema = z.object({
  name: z.string(),
  hash: z.string(),
  state: modelStateSchema,
  /** Sequences that can run at a time; 0 until loaded. */
  slots: z.int().min(0),
  busySlots: z.int().min(0),
  /** Longest prompt plus answer in tokens, as configured on this processor; 0 until loaded. */
  contextLength: z.int().min(0),
  /** Why it failed, or is loaded and cannot be used now, for people. */
  reason: storedText().optional(),
})
export type ModelLoad = z.infer<typeof modelLoadSchema>

export const gpuSchema = z.object({
  /** What runs the model: `cpu`, `cuda`, `vulkan` or `metal`. */
  backend: storedText(),
  devices: z.array(storedText()),
  /** Why this back end was chosen. */
  reason: storedText(),
})
export type Gpu = z.infer<typeof gpuSchema>

export const loadSchema = z.object({
  /** `draining`: finishes what runs, takes nothing new. */
  state: z.enum(['starting', 'ready', 'draining']),
  /** Requests being worked on. */
  running: z.int().min(0).default(0),
  /** Requests waiting. */
  queued: z.int().min(0).default(0),
  models: z.array(modelLoadSchema).default([]),
  gpu: gpuSchema.optional(),
  /** Entries of the directory and the accounts that this worker cannot read; absent: none. */
  unreadable: z.int().min(1).optional(),
})
export type Load = z.infer<typeof loadSchema>

export const workerStateSchema = z.enum(['ready', 'starting', 'draining', 'suspect', 'down'])

/** Another worker, as one that is or should be linked with it sees it. */
export const linkViewSchema = z.object({
  role: roleSchema,
  /** Empty: of the authority, before the directory has come. */
  name: z.string(),
  state: workerStateSchema,
  /** Why there is no link, where that is known. */
  reason: z.string().optional(),
})
export type LinkView = z.infer<typeof linkViewSchema>

/** What a worker says of itself, in `status` and in its status file. */
export const workerStatusSchema = z.object({
  role: roleSchema,
  name: z.string(),
  publicKey: z.string(),
  version: z.string(),
  since: z.number(),
  pid: z.int(),
  addresses: z.record(z.string(), z.string()),
  load: loadSchema,
  /** Whom it is linked with, or should be. Workers of earlier builds do not tell it. */
  links: z.array(linkViewSchema).optional(),
  /** Whether the directory, as far as it has come, lists this worker as a member. */
  listed: z.boolean().optional(),
})
export type WorkerStatus = z.infer<typeof workerStatusSchema>

/** A member as another worker sees it. */
export const workerViewSchema = z.object({
  role: roleSchema,
  name: z.string(),
  publicKey: z.string(),
  /** `suspect`: silent for a while, gets no new work. `down`: no link. */
  state: workerStateSchema,
  version: z.string().optional(),
  since: z.number().optional(),
  addresses: z.record(z.string(), z.string()).optional(),
  load: loadSchema.optional(),
  /** Why there is no link, where that is known. */
  reason: z.string().optional(),
})
export type WorkerView = z.infer<typeof workerViewSchema>
