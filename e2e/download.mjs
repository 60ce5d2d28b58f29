// Fetches one certificate as a person does: types the letter's IDs, chooses a PIN,
// saves the file.
import { answer, heading, person, prepare, readJob, save } from './lib.mjs'

const job = await readJob()
const context = await person({ javaScriptEnabled: job.javaScript !== false })
const page = await context.newPage()
await prepare(page, job.portal, job)
const done = { url: page.url(), heading: await heading(page), text: await page.locator('main').innerText() }
const fileName = await save(page, job.file)
answer({ ...done, fileName })
await context.close()
