"""The class that both sides run: it answers with what it was asked."""


class Echo:
    """`WIDTH` numbers a row."""

    WIDTH = 4
    inputs = {"x": ("FP32", [-1, WIDTH])}
    outputs = {"y": ("FP32", [-1, WIDTH])}

    def load(self):
        pass

    def predict(self, batch):
        return {"y": batch["x"]}
