// Opens a page that asks for a client certificate.
import { answer, person, readJob } from './lib.mjs'

const job = await readJob()
const context = await person()
const page = await context.newPage()
const response = await page.goto(job.url)
answer({ status: response.status(), text: await page.locator('body').innerText() })
await context.close()
