// A formula wider than a phone scrolls in its own box; so that it does by keyboard too, the box can be reached.
window.addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  for (const formula of document.querySelectorAll("mjx-container[display]")) formula.tabIndex = 0;
});
