document.body.textContent = "fanfare";
