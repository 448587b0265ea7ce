"""Adam (Kingma and Ba, 2015), with weight decay as a part of the gradient."""

import numpy as np

FIRST, SECOND, TINY = 0.9, 0.999, 1e-8


class Adam:
    """Moves weights in place, a step at a time."""

    def __init__(self, weights: dict[str, np.ndarray], rate: float, decay: float):
        self.weights, self.rate, self.decay, self.steps = weights, rate, decay, 0
        self.first, self.second = ({name: np.zeros_like(value) for name, value in weights.items()} for _ in range(2))

    def step(self, gradients: dict[str, np.ndarray]) -> None:
        self.steps += 1
        for name, slope in gradients.items():
            slope = slope + self.decay * self.weights[name]
            self.first[name] += (1 - FIRST) * (slope - self.first[name])
            self.second[name] += (1 - SECOND) * (slope**2 - self.second[name])
            first, second = self.first[name] / (1 - FIRST**self.steps), self.second[name] / (1 - SECOND**self.steps)
            self.weights[name] -= self.rate * first / (np.sqrt(second) + TINY)
