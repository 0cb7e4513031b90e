"""The configuration of a gateway, made by questions: what is found here, answers, the file, what comes after it."""
