// Fills the form in every tab first, sends them all, then saves from every tab.
import { join } from 'node:path'
import { answer, fill, heading, person, readJob, save, saveLink, submitButton } from './lib.mjs'

const job = await readJob()
const context = await person()
const pages = []
for (const ids of job.tabs) {
  const page = await context.newPage()
  await page.goto(job.portal + '/p/rcd')
  await fill(page, ids)
  pages.push(page)
}
await Promise.all(pages.map(async (page) => {
  await submitButton(page).click()
  await saveLink(page).waitFor()
}))
const tabs = []
for (const [i, page] of pages.entries()) {
  const file = join(job.dir, `tab-${i}.p12`)
  const title = await heading(page)
  tabs.push({ file, fileName: await save(page, file), heading: title })
}
answer({ tabs })
await context.close()
