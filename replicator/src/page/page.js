"use strict";
// Takes the whole middle of the page anew every two seconds; the server draws it.
const main = document.querySelector("main");
const stale = document.querySelector("#stale");
let heard = Date.now();
async function renew() {
  try {
    const answer = await fetch("?part=main", { cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (!answer.ok) throw new Error(answer.statusText);
    main.innerHTML = await answer.text();
    heard = Date.now();
    stale.textContent = "";
  } catch (error) {
    const seconds = Math.round((Date.now() - heard) / 1000);
    stale.textContent = `no answer for ${seconds} s: what is shown is old`;
  }
  setTimeout(renew, 2000);
}
setTimeout(renew, 2000);
