import { z } from 'zod'
import { httpConfigSchema } from '../../lib/worker-base/index.js'

export const metricsConfigSchema = httpConfigSchema.extend({
  /** What a scraper must show as `Authorization: Bearer <token>`; empty: nothing. */
  token: z.string(),
})
