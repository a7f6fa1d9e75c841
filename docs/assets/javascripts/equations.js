// Sets the equations of a page with KaTeX, which lies beside it: nothing is loaded from another server.
document.addEventListener("DOMContentLoaded", () => {
  for (const element of document.querySelectorAll(".arithmatex")) {
    const source = element.textContent.trim().slice(2, -2); // without \\( \\) or \\[ \\]
    katex.render(source, element, { displayMode: element.tagName === "DIV", throwOnError: false });
  }
});
